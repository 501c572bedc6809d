"""The keys of a spec file: for each the option that it gives, and how its YAML becomes what that option takes.

Keys are the options' names with underscores, those of options that can be repeated in the plural. Paths are relative
to the file's directory. A value of ``env`` that is left out is taken from the caller's environment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from agentctl.cli import options, values
from agentctl.errors import UsageError

if TYPE_CHECKING:
    from yaml.nodes import Node

    from agentctl.cli.spec_yaml import StrictYaml

Read = Callable[["StrictYaml", "Node", str], Any]
T = TypeVar("T")


class Key(NamedTuple):
    """``option`` is the attribute of the bundle of options. A scalar is replaced by what is given on the command line;
    to the texts of a list or a map those of the command line are added, and the last one of a map's key counts."""

    option: str
    kind: Literal["scalar", "list", "map"]
    read: Read


def _text(file: StrictYaml, node: Node, what: str) -> str:
    return file.text(node, what)


def _bool(file: StrictYaml, node: Node, what: str) -> bool:
    return file.boolean(node, what)


def _path(file: StrictYaml, node: Node, what: str) -> str:
    return _beside(file, file.text(node, what))


def _file(file: StrictYaml, node: Node, what: str) -> Path:
    return Path(_path(file, node, what))


def _beside(file: StrictYaml, path: str) -> str:
    return str(file.directory / Path(path).expanduser())


def _choice(known: Sequence[str]) -> Read:
    def read(file: StrictYaml, node: Node, what: str) -> str:
        text = file.text(node, what)
        return _checked(file, node, lambda: values.choice(text, known, what))

    return read


def _duration(*, never: bool) -> Read:
    """``10m``, ``90s`` or a number of seconds."""

    def read(file: StrictYaml, node: Node, what: str) -> float:
        text = file.text(node, what) if file.is_text(node) else f"{file.number(node, what):g}"
        return _checked(file, node, lambda: values.duration_or_never(text) if never else values.duration(text))

    return read


def _checked(file: StrictYaml, node: Node, read: Callable[[], T]) -> T:
    try:
        return read()
    except UsageError as e:
        raise file.error(node, e.message.removesuffix("."), hint=e.hint) from e


def _pairs(*, optional: bool = False) -> Read:
    def read(file: StrictYaml, node: Node, what: str) -> list[str]:
        return [_pair(file, what, key, value, optional) for key, value in file.mapping(node, what).items()]

    return read


def _pair(file: StrictYaml, what: str, key: str, node: Node, optional: bool) -> str:
    if "=" in key or not key:
        raise file.error(node, f"{key!r} cannot be a key of {what}")
    if optional and file.is_null(node):
        return key
    return f"{key}={file.text(node, f'{what}.{key}')}"


def _list_of(read_one: Read) -> Read:
    def read(file: StrictYaml, node: Node, what: str) -> list[Any]:
        return [read_one(file, entry, f"an entry of {what}") for entry in file.sequence(node, what)]

    return read


def _system_prompt(file: StrictYaml, node: Node, what: str) -> str:
    text = file.text(node, what)
    return f"@{_beside(file, text[1:])}" if text.startswith("@") else text


def _skill(file: StrictYaml, node: Node, what: str) -> str:
    text = file.text(node, what)
    return text if "://" in text or text.startswith("git@") else _beside(file, text)


def _secret(file: StrictYaml, node: Node, what: str) -> str:
    """``NAME`` or ``NAME=@FILE``, or the same as a mapping. Never its value: the file would have it."""
    if file.is_mapping(node):
        found = file.mapping(node, what, ("name", "file"))
        name = file.text(_needed(file, node, found, "name", what), f"name of {what}")
        return f"{name}=@{_path(file, found['file'], f'file of {what}')}" if "file" in found else name
    name, sign, rest = file.text(node, what).partition("=")
    if not sign:
        return name
    if not rest.startswith("@"):
        raise file.error(
            node, f"{what} says where a secret is, never what it is", hint=f"Write {name}, or {name}=@FILE."
        )
    return f"{name}=@{_beside(file, rest[1:])}"


def _needed(file: StrictYaml, node: Node, found: dict[str, Node], key: str, what: str) -> Node:
    if key not in found:
        raise file.error(node, f"{what} has no {key!r}")
    return found[key]


def _mcp_servers(file: StrictYaml, node: Node, what: str) -> list[str]:
    """A list of ``name=command`` texts or of objects with a name; or a mapping of names to objects."""
    if file.is_mapping(node):
        return [_mcp_server(file, value, f"{what}.{name}", name) for name, value in file.mapping(node, what).items()]
    return [_mcp_server(file, entry, f"an entry of {what}", None) for entry in file.sequence(node, what)]


def _mcp_server(file: StrictYaml, node: Node, what: str, name: str | None) -> str:
    if name is None and file.is_text(node):
        text = file.text(node, what)
        _checked(file, node, lambda: values.mcp_servers([text]))
        return text
    known = ("name", "type", "command", "args", "env", "url", "headers")
    members = file.mapping(node, what, known if name is None else known[1:])
    given = {"name": name, **{key: file.plain(value, f"{key} of {what}") for key, value in members.items()}}
    if not isinstance(given["name"], str) or ("url" in given) == ("command" in given):
        raise file.error(node, f"{what} needs a name, and either a command or a url")
    text = json.dumps(given)
    _checked(file, node, lambda: values.mcp_servers([text]))
    return text


def _home_file(file: StrictYaml, node: Node, what: str) -> str:
    if not file.is_mapping(node):
        target, sign, source = file.text(node, what).partition("=")
        if not sign:
            raise file.error(node, f"{what} is not TARGET=SOURCE")
        return f"{target}={_beside(file, source)}"
    found = file.mapping(node, what, ("target", "source"))
    target = file.text(_needed(file, node, found, "target", what), f"target of {what}")
    return f"{target}={_path(file, _needed(file, node, found, 'source', what), f'source of {what}')}"


def _clone(file: StrictYaml, node: Node, what: str) -> str:
    """As ``--clone`` takes it, or ``{url, branch?, path?}``."""
    if not file.is_mapping(node):
        return file.text(node, what)
    found = {k: file.text(v, f"{k} of {what}") for k, v in file.mapping(node, what, ("url", "branch", "path")).items()}
    if "url" not in found:
        raise file.error(node, f"{what} has no 'url'")
    branch, path = found.get("branch"), found.get("path")
    return found["url"] + (f"#{branch}" if branch else "") + (f"={path}" if path else "")


def _mount(file: StrictYaml, node: Node, what: str) -> str:
    """``SOURCE:TARGET[:rw]``, or ``{source, target, writable?}``."""
    if not file.is_mapping(node):
        source, sign, rest = file.text(node, what).partition(":")
        if not sign:
            raise file.error(node, f"{what} is not SOURCE:TARGET[:rw]")
        return f"{_beside(file, source)}:{rest}"
    found = file.mapping(node, what, ("source", "target", "writable"))
    source = _path(file, _needed(file, node, found, "source", what), f"source of {what}")
    target = file.text(_needed(file, node, found, "target", what), f"target of {what}")
    writable = "writable" in found and file.boolean(found["writable"], f"writable of {what}")
    return f"{source}:{target}{':rw' if writable else ''}"


def _copy(file: StrictYaml, node: Node, what: str) -> str:
    """``SOURCE:TARGET``, or ``{source, target, exclude?}``."""
    if not file.is_mapping(node):
        source, sign, target = file.text(node, what).rpartition(":")
        if not sign or not source or not target:
            raise file.error(node, f"{what} is not SOURCE:TARGET")
        return f"{_beside(file, source)}:{target}"
    found = file.mapping(node, what, ("source", "target", "exclude"))
    source = _path(file, _needed(file, node, found, "source", what), f"source of {what}")
    target = file.text(_needed(file, node, found, "target", what), f"target of {what}")
    exclude = _list_of(_text)(file, found["exclude"], f"exclude of {what}") if "exclude" in found else []
    return json.dumps({"source": source, "target": target, "exclude": exclude}) if exclude else f"{source}:{target}"


def _number_or_text(file: StrictYaml, node: Node, what: str) -> str:
    return file.text(node, what) if file.is_text(node) else f"{file.number(node, what):g}"


KEYS: dict[str, Key] = {
    "agent": Key("agent", "scalar", _text),
    "agent_command": Key("agent_command", "scalar", _text),
    "provider": Key("provider", "scalar", _text),
    "model": Key("model", "scalar", _text),
    "mode": Key("mode", "scalar", _text),
    "thought_level": Key("thought_level", "scalar", _text),
    "cwd": Key("cwd", "scalar", _path),
    "root": Key("root", "scalar", _path),
    "volume": Key("volume", "scalar", _text),
    "workspace": Key("workspace", "scalar", _text),
    "sandbox": Key("sandbox", "scalar", _text),
    "origin": Key("origin", "scalar", _text),
    "permissions": Key("permissions", "scalar", _choice(options.PERMISSIONS)),
    "policy": Key("policy", "scalar", _file),
    "on_lost": Key("on_lost", "scalar", _choice(options.ON_LOST)),
    "on_interrupt": Key("on_interrupt", "scalar", _choice(options.ON_INTERRUPT)),
    "timeout": Key("timeout", "scalar", _duration(never=False)),
    "stall_timeout": Key("stall_timeout", "scalar", _duration(never=True)),
    "start_timeout": Key("start_timeout", "scalar", _duration(never=False)),
    "idle_timeout": Key("idle_timeout", "scalar", _duration(never=True)),
    "ttl": Key("ttl", "scalar", _duration(never=False)),
    "system_prompt": Key("system_prompt", "scalar", _system_prompt),
    "secret_ephemeral": Key("secret_ephemeral", "scalar", _bool),
    "clone_token_env": Key("clone_token_env", "scalar", _text),
    "env": Key("env", "map", _pairs(optional=True)),
    "labels": Key("label", "map", _pairs()),
    "env_files": Key("env_file", "list", _list_of(_file)),
    "secrets": Key("secret", "list", _list_of(_secret)),
    "mcp_servers": Key("mcp_server", "list", _mcp_servers),
    "mcp_configs": Key("mcp_config", "list", _list_of(_file)),
    "skills": Key("skill", "list", _list_of(_skill)),
    "files": Key("file", "list", _list_of(_home_file)),
    "pre_start": Key("pre_start", "list", _list_of(_text)),
    "clones": Key("clone", "list", _list_of(_clone)),
    "image": Key("image", "scalar", _text),
    "dockerfile": Key("dockerfile", "scalar", _file),
    "ca_bundle": Key("ca_bundle", "scalar", _file),
    "read_only": Key("read_only", "scalar", _bool),
    "network": Key("network", "scalar", _text),
    "cpus": Key("cpus", "scalar", _number_or_text),
    "memory": Key("memory", "scalar", _number_or_text),
    "mounts": Key("mount", "list", _list_of(_mount)),
    "copies": Key("copy", "list", _list_of(_copy)),
    "copy_excludes": Key("copy_exclude", "list", _list_of(_text)),
    "project": Key("project", "scalar", _path),
    "project_mode": Key("project_mode", "scalar", _choice(options.PROJECT_MODES)),
    "project_target": Key("project_target", "scalar", _text),
    "ports": Key("port", "list", _list_of(_number_or_text)),
}
"""In the order in which ``--print-config`` prints them."""

TIMEOUTS = {"turn": "timeout", "stall": "stall_timeout", "start": "start_timeout", "idle": "idle_timeout", "ttl": "ttl"}
"""The keys below ``timeouts``, another way to write them."""
