"""How the values of options are read. Each function raises ``UsageError`` that says what would do."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agentctl.errors import UsageError

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Json = dict[str, Any]


def choice(value: str, known: Sequence[str], option: str) -> str:
    """``value`` when it is one of ``known``; the error names the nearest."""
    if value in known:
        return value
    near = difflib.get_close_matches(value.lower(), known, n=1, cutoff=0.5)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    raise UsageError(
        f"{option} cannot be '{value}'.{guess}",
        hint=f"It is one of: {', '.join(known)}.",
        details={"choices": list(known), "value": value, "near": near},
    )


def duration(text: str) -> float:
    """``90``, ``30s``, ``10m``, ``1h`` or ``1h30m`` in seconds."""
    from agentctl.config import duration_s

    try:
        return duration_s(text)
    except ValueError:
        hint = "Give seconds, or a time such as 30s, 10m, 1h or 1h30m."
        raise UsageError(f"'{text}' is not a time.", hint=hint) from None


def duration_or_never(text: str) -> float:
    """As ``duration``; ``0`` is 0.0 and means never."""
    return 0.0 if text.strip() in ("0", "0s") else duration(text)


def pairs(given: Iterable[str], option: str) -> dict[str, str]:
    """``["k=v", …]`` as a dict; the last one of a key counts."""
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{option} '{text}' is not KEY=VALUE.", hint=f"Write it as {option} key=value.")
        found[key.strip()] = value
    return found


def environment(given: Iterable[str]) -> dict[str, str]:
    """``--env K=V``, or ``--env K`` for the caller's own value (which then never stands in a command line)."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not _ENV_NAME.fullmatch(name):
            raise UsageError(f"--env '{text}' does not start with a variable's name.", hint="Write --env NAME=value.")
        if not equals and name not in os.environ:
            raise UsageError(f"--env {name}: this variable is not set here.", hint=f"Write --env {name}=value.")
        found[name] = value if equals else os.environ[name]
    return found


def existing_files(given: Iterable[Path], option: str) -> tuple[str, ...]:
    """Absolute paths of files that can be read."""
    found = []
    for path in given:
        if not path.is_file() or not os.access(path, os.R_OK):
            raise UsageError(f"{option} {path}: there is no such file that can be read.")
        found.append(str(path.absolute()))
    return tuple(found)


def mcp_servers(given: Iterable[str], option: str = "--mcp-server") -> tuple[Json, ...]:
    """``name=command args``, ``name=https://…`` or JSON, as ACP ``McpServer`` objects with unique names."""
    servers = [server for text in given for server in _mcp_server(text, option)]
    names = [server["name"] for server in servers]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{option}: two servers are called '{name}'.", hint="Give each its own name.")
    return tuple(servers)


def _mcp_server(text: str, option: str) -> list[Json]:
    if text.lstrip().startswith("{"):
        from agentctl.cli.mcp_json import mcp_from_json

        return mcp_from_json(text, option)
    name, _, rest = text.partition("=")
    if not name.strip() or not rest.strip():
        raise UsageError(
            f"--mcp-server '{text}' is not understood.",
            hint="Write --mcp-server 'name=command args', 'name=https://host/mcp' or a JSON object.",
        )
    if re.match(r"https?://", rest.strip()):
        return [{"type": "http", "name": name.strip(), "url": rest.strip(), "headers": []}]
    try:
        command, *args = shlex.split(rest)
    except ValueError as e:
        raise UsageError(f"--mcp-server '{text}': the command's quotes do not match.") from e
    return [{"name": name.strip(), "command": command, "args": args, "env": []}]


def command_line(text: str) -> tuple[str, ...]:
    """The words of ``--agent-command``."""
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise UsageError("--agent-command: its quotes do not match.") from e
    if not words:
        raise UsageError("--agent-command is empty.", hint="Write --agent-command 'program args'.")
    return tuple(words)


def json_object(text: str, what: str) -> Json:
    """A JSON object given on the command line."""
    try:
        value = json.loads(text)
    except ValueError as e:
        raise UsageError(f"{what} is not JSON: {e}", hint="""Quote it for the shell: '{"key": "value"}'.""") from e
    if not isinstance(value, dict):
        raise UsageError(f"{what} is not a JSON object.", hint="""Write it as '{"key": "value"}'.""")
    return value


def json_or_text(text: str) -> Any:
    """``true``, ``3`` or ``"x"`` as JSON says; anything else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def policy_file(path: Path | None) -> Json:
    """The parsed policy file."""
    if path is None:
        return {}
    from agentctl.acp.policy import parse_policy

    [found] = existing_files([path], "--policy")
    return parse_policy(Path(found).read_text(encoding="utf-8", errors="replace"), str(path))
