"""MCP servers as a user writes them: ``${NAME}`` in a value is filled in at each start and never stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from agentctl import errors

Json = dict[str, Any]
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class Filled(NamedTuple):
    """The servers for the agent, and the values that came from variables: they are to be redacted."""

    servers: list[Json]
    secrets: list[str]


def filled(servers: Iterable[Json], environ: Mapping[str, str]) -> Filled:
    """Fill ``${NAME}``, ``${env:NAME}`` and ``${NAME:-DEFAULT}`` into commands, arguments, urls, headers and
    variables. Raise ``CredentialsMissing`` for a variable that is not set and has no default."""
    secrets: list[str] = []

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(lambda match: _look_up(match, environ, secrets), value)
        if isinstance(value, dict):
            return {key: fill(inner) for key, inner in value.items()}
        return [fill(inner) for inner in value] if isinstance(value, list | tuple) else value

    return Filled([fill(server) for server in servers], secrets)


def _look_up(match: re.Match[str], environ: Mapping[str, str], secrets: list[str]) -> str:
    name, default = match[1], match[2]
    value = environ.get(name) or default
    if value is None:
        raise errors.CredentialsMissing(
            f"An MCP server of this session needs the variable {name}, which is not set.",
            hint=f"Set {name}, or give it by --env, --env-file or --secret.",
        )
    if value != default:
        secrets.append(value)
    return value
