"""MCP servers and skills configured for a directory (``/v1/config/*``): they reach every session opened in it.

Kept in one file on the volume, so that they outlive a supervisor. Shapes: ``McpServerConfig`` and ``SkillsConfig`` of
sandbox-agent 0.4; what an agent gets are the ``McpServer`` objects of ACP.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from agentctl import errors
from agentctl.supervisor.git.url import check_url
from agentctl.supervisor.log.files import open_directory, said_as_ours

Json = dict[str, Any]
Kind = Literal["mcp", "skills"]
_SOURCES = ("local", "git", "github")
_OWNER_AND_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")


class ConfigStore:
    """``{kind: {directory: {name: config}}}``, read once, written whole at every change."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._data: Json | None = None

    def get(self, kind: Kind, directory: str, name: str) -> Json:
        """Raise ``NotFound``."""
        found = self.all(kind, directory).get(name)
        if found is None:
            raise errors.NotFound(f"Nothing called {name!r} is configured for {directory}.")
        return found

    def all(self, kind: Kind, directory: str) -> dict[str, Json]:
        """Name → config of one directory."""
        configs: dict[str, Json] = self._read().get(kind, {}).get(_normal(directory), {})
        return configs

    def put(self, kind: Kind, directory: str, name: str, config: Json) -> None:
        """Add or replace. Raise ``UsageError`` for a config that no agent could use; nothing is changed then."""
        _CHECKS[kind](name, config)
        data = self._read()
        data.setdefault(kind, {}).setdefault(_normal(directory), {})[name] = config
        self._write(data)

    def delete(self, kind: Kind, directory: str, name: str) -> None:
        """Deleting what is not there succeeds."""
        if name in self.all(kind, directory):
            data = self._read()
            del data[kind][_normal(directory)][name]
            self._write(data)

    def mcp_servers(self, directory: str, environ: Mapping[str, str]) -> list[Json]:
        """The enabled MCP servers of a directory as ACP has them; variables are read from the agent's environment."""
        configs = self.all("mcp", directory)
        return [acp_server(n, c, environ) for n, c in sorted(configs.items()) if c.get("enabled", True)]

    def _read(self) -> Json:
        if self._data is None:
            try:
                self._data = json.loads(self._file.read_bytes())
            except FileNotFoundError:
                self._data = {}
            except (OSError, ValueError) as e:
                raise errors.StateError(f"Cannot read {self._file}: {e}", hint="Delete this file.") from e
        return self._data

    def _write(self, data: Json) -> None:
        self._data = None  # read again if this fails
        with said_as_ours(self._file, what="the configuration"):
            open_directory(self._file.parent)
            new = self._file.with_suffix(".new")
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8") as stream:
                json.dump(data, stream)
            new.replace(self._file)


def added(servers: list[Json], more: list[Json]) -> list[Json]:
    """``servers`` and those of ``more`` whose names are not taken."""
    taken = {server.get("name") for server in servers}
    return [*servers, *(server for server in more if server["name"] not in taken)]


def _normal(directory: str) -> str:
    if not directory.startswith("/") or "\0" in directory:
        raise errors.UsageError("directory must be an absolute path.")
    return os.path.normpath(directory)


def acp_server(name: str, config: Json, environ: Mapping[str, str]) -> Json:
    """One ``McpServerConfig`` as an ACP ``McpServer``. Raise ``CredentialsMissing`` for a variable that is not set."""
    if _is_local(config):
        command, *args = _command(config)
        env = config.get("env") or config.get("environment") or {}
        return {"name": name, "command": command, "args": [*args, *config.get("args", [])], "env": _pairs(env)}

    def value(variable: str) -> str:
        if not environ.get(variable):
            raise errors.CredentialsMissing(f"The MCP server {name!r} needs the variable {variable}, which is not set.")
        return environ[variable]

    headers = dict(config.get("headers") or {})
    for header, variable in (config.get("envHeaders") or config.get("envHttpHeaders") or {}).items():
        headers[header] = value(variable)
    if token := config.get("bearerTokenEnvVar"):
        headers["Authorization"] = f"Bearer {value(token)}"
    kind = config.get("transport") or ("sse" if config.get("type") == "sse" else "http")
    return {"type": kind, "name": name, "url": config["url"], "headers": _pairs(headers)}


def _is_local(config: Json) -> bool:
    return config.get("type") in ("local", "stdio") or (config.get("type") is None and "command" in config)


def _command(config: Json) -> list[str]:
    command = config["command"]
    return list(command) if isinstance(command, list) else shlex.split(command)


def _pairs(values: Mapping[str, Any]) -> list[Json]:
    return [{"name": name, "value": str(value)} for name, value in values.items()]


def _check_mcp(name: str, config: Json) -> None:
    if _is_local(config):
        _check_command(name, config)
    elif config.get("type") in ("remote", "http", "sse", None) and isinstance(config.get("url"), str):
        if config.get("transport", "http") not in ("http", "sse"):
            raise errors.UsageError(f"The MCP server {name!r} has an unknown transport: use http or sse.")
        if not config["url"].startswith(("http://", "https://")):
            raise errors.UsageError(f"The MCP server {name!r} needs an http:// or https:// url.")
    else:
        raise errors.UsageError(f'The MCP server {name!r} is neither {{"type": "local"}} nor {{"type": "remote"}}.')
    for key in ("env", "environment", "headers", "envHeaders", "envHttpHeaders"):
        values = config.get(key)
        if values is not None and not (
            isinstance(values, dict) and all(isinstance(value, str | int | float) for value in values.values())
        ):
            raise errors.UsageError(f"{key} of the MCP server {name!r} must be an object of texts.")
    if not isinstance(config.get("bearerTokenEnvVar"), str | None):
        raise errors.UsageError(f"bearerTokenEnvVar of the MCP server {name!r} must be the name of a variable.")


def _check_command(name: str, config: Json) -> None:
    args = config.get("args", [])
    try:
        words = [*_command(config), *args]
    except (KeyError, TypeError, ValueError, AttributeError):
        words = []
    if not words or not isinstance(args, list) or not all(isinstance(word, str) for word in words):
        raise errors.UsageError(f"The MCP server {name!r} needs a command: text or a list of texts, and args: a list.")


def _check_skills(name: str, config: Json) -> None:
    sources = config.get("sources")
    if not isinstance(sources, list) or not sources:
        raise errors.UsageError('A skills config is {"sources": [{"type", "source"}]}.')
    for source in sources:
        if not isinstance(source, dict) or source.get("type") not in _SOURCES:
            raise errors.UsageError(f"A skill's source is one of the types {', '.join(_SOURCES)}, with its source.")
        _check_source(source)


def _check_source(source: Json) -> None:
    where, wanted = source.get("source"), source.get("skills")
    if not isinstance(where, str) or not where or "\0" in where:
        raise errors.UsageError("The source of a skill must be a text.")
    if not all(isinstance(source.get(key), str | None) for key in ("ref", "subpath")):
        raise errors.UsageError("ref and subpath of a skill must be texts.")
    if wanted is not None and not (isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)):
        raise errors.UsageError("skills of a skill's source must be a list of names.")
    if source["type"] == "git" or "://" in where:
        check_url(where)
    elif source["type"] == "github" and not _OWNER_AND_NAME.fullmatch(where):
        raise errors.UsageError("The source of a skill on GitHub is OWNER/NAME.")


_CHECKS: dict[Kind, Callable[[str, Json], None]] = {"mcp": _check_mcp, "skills": _check_skills}
