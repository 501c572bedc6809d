"""Writes ``command_table.py``: the tree of commands as data, for completion, which has no time to import them.

Which kind of value an option or argument takes is read from its parser where that knows all choices, else from
``OPTION_KINDS`` and ``ARGUMENT_KINDS``; a kind is one of ``complete_values.py``, ``files``, ``dirs``, ``=a|b|c``,
``flag`` (no value) or empty: anything goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from typer._click import Context

from agentctl.cli.lazy import LazyGroup
from agentctl.errors import UsageError

OPTION_KINDS = {
    "--agent": "agents",
    "--from": "agents",
    "--provider": "providers",
    "--session": "sessions",
    "--sandbox": "sandboxes",
    "--volume": "volumes",
    "--workspace": "workspaces",
    "--preset": "presets",
    "--model": "models",
    "--mode": "modes",
    "--thought-level": "levels",
    "--turn": "turns",
    "--network": "networks",
    "--copy": "files",
    "--mount": "files",
    "--patch": "files",
    "--skill": "files",
}
"""By an option's first long name; the rest by METAVAR_KINDS."""

METAVAR_KINDS = {"FILE": "files", "DIR": "dirs"}

ARGUMENT_KINDS = {
    "SESSION": "sessions",
    "AGENT": "agents",
    "SANDBOX": "sandboxes",
    "VOLUME": "volumes",
    "WORKSPACE": "workspaces",
    "REQUEST": "requests",
    "MODEL": "models",
    "MODE": "modes",
    "LEVEL": "levels",
    "KEY": "settings",
    "TOPIC": "topics",
    "SRC": "places",
    "DST": "places",
    "FILE": "files",
}

COMMAND_KINDS = {
    ("schema", "NAME"): "schemas",
    ("sessions set-option", "ID"): "option_ids",
    ("sessions set-option", "VALUE"): "option_values",
    ("config set", "VALUE"): "setting_values",
    ("agents update", "AGENT"): "own_agents",
    ("agents delete", "AGENT"): "own_agents",
    ("sessions list", "--status"): "session_statuses",
    ("sandboxes list", "--status"): "sandbox_statuses",
}
"""What goes before all of the above."""

_HEAD = '''"""The tree of commands as data, for completion. Written by agentctl.cli.reference, not by hand."""

# fmt: off
# ruff: noqa: E501

from __future__ import annotations

Option = tuple[tuple[str, ...], str, bool, str]
"""Its names, the kind of its value, whether it may be given again, its help."""
'''


def command_table(root: Context) -> str:
    """The whole module."""
    return "\n".join([_HEAD, *_Table(root).parts(), ""])


class _Table:
    def __init__(self, root: Context) -> None:
        self._root = root
        self._options: dict[tuple[tuple[str, ...], str, bool, str], int] = {}
        self._commands: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {}
        self._groups: dict[str, dict[str, str]] = {}
        self._aliases: dict[str, str] = {}
        self._static = _static_kinds()

    def parts(self) -> Iterator[str]:
        for context in _walk(self._root):
            self._add(context)
        yield _dict("GROUPS", "dict[str, dict[str, str]]", self._groups)
        yield _dict("ALIASES", "dict[str, str]", self._aliases)
        options = "".join(f"    {_literal(option)},\n" for option in self._options)
        yield f"OPTIONS: tuple[Option, ...] = (\n{options})\n"
        yield _dict("COMMANDS", "dict[str, tuple[tuple[int, ...], tuple[str, ...]]]", self._commands)
        yield _dict("AGENTS", "dict[str, str]", _agents())
        yield _dict("TOPICS", "dict[str, str]", _topics())
        yield _dict("SETTINGS", "dict[str, str]", _settings(self._static)).rstrip("\n")

    def _add(self, context: Context) -> None:
        path = _path(context)
        command = context.command
        if isinstance(command, LazyGroup):
            self._groups[path] = {name: entry.help for name, entry in command.table.items()}
            self._aliases |= {f"{path} {alias}".strip(): name for alias, name in command.aliases.items()}
        params = command.get_params(context)
        options = [self._option(p, path) for p in params if p.param_type_name == "option"]
        arguments = [self._argument(p, path) for p in params if p.param_type_name == "argument"]
        self._commands[path] = (tuple(options), tuple(arguments))

    def _option(self, param: Any, path: str) -> int:
        names = tuple(sorted(param.opts, key=lambda name: not name.startswith("--")))
        record = (names, self._option_kind(param, path), bool(param.multiple), _first_sentence(param.help or ""))
        return self._options.setdefault(record, len(self._options))

    def _option_kind(self, param: Any, path: str) -> str:
        if getattr(param, "is_flag", False):
            return "flag"
        name = next((name for name in param.opts if name.startswith("--")), param.opts[0])
        if (path, name) in COMMAND_KINDS:
            return self._known(COMMAND_KINDS[path, name])
        found = _choices(getattr(param.type, "func", None)) or OPTION_KINDS.get(name)
        return self._known(found or METAVAR_KINDS.get(param.metavar or "", ""))

    def _argument(self, param: Any, path: str) -> str:
        name = (param.metavar or "").strip("[].")
        kind = COMMAND_KINDS.get((path, name)) or ARGUMENT_KINDS.get(name, "")
        return self._known(kind) + ("..." if param.nargs == -1 else "")

    def _known(self, kind: str) -> str:
        return self._static.get(kind, kind)


def _walk(context: Context) -> Iterator[Context]:
    yield context
    group = context.command
    if isinstance(group, LazyGroup):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from _walk(Context(command, info_name=name, parent=context))


def _path(context: Context) -> str:
    return context.command_path.partition(" ")[2]


def _choices(parser: Callable[[str], Any] | None) -> str:
    """What a parser takes, when it says so of what it does not take."""
    if parser is None:
        return ""
    try:
        parser("\0")
    except UsageError as e:
        return _either(e.details.get("choices", ()))
    except ValueError:
        return ""
    return ""


def _either(choices: Any) -> str:
    return f"={'|'.join(choices)}" if choices else ""


def _static_kinds() -> dict[str, str]:
    """Kinds whose values the code knows."""
    from agentctl import schemas
    from agentctl.cli import compute_options, sandboxes, sessions_list
    from agentctl.config import READERS
    from agentctl.providers.lookup import PROVIDERS

    return {
        "providers": _either(PROVIDERS),
        "networks": _either(compute_options.POLICIES),
        "session_statuses": _either(sessions_list.STATUSES),
        "sandbox_statuses": _either(sandboxes.STATUSES),
        "settings": _either(READERS),
        "schemas": _either(schemas.names()),
    }


def _agents() -> dict[str, str]:
    from agentctl.agents import recipes

    return {recipe.name: recipe.title for recipe in recipes.load_all()}


def _topics() -> dict[str, str]:
    from agentctl.cli.help_topics import TOPICS

    return {name: about for name, (about, _) in TOPICS.items()}


def _settings(static: dict[str, str]) -> dict[str, str]:
    from agentctl.model import PERMISSIONS

    return {"permissions": "|".join(PERMISSIONS), "provider": static["providers"].removeprefix("=")}


def _first_sentence(text: str) -> str:
    text = " ".join(text.split())
    return text.partition(". ")[0].rstrip(".") if ". " in text else text.rstrip(".")


def _dict(name: str, annotation: str, content: dict[str, Any]) -> str:
    lines = "".join(f"    {_literal(key)}: {_literal(value)},\n" for key, value in content.items())
    return f"{name}: {annotation} = {{\n{lines}}}\n"


def _literal(value: Any) -> str:
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case tuple():
            inside = ", ".join(_literal(v) for v in value)
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        case dict():
            return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
        case _:
            return repr(value)
