"""MCP servers in the JSON that Claude, VS Code and others keep them in, as ACP ``McpServer`` objects."""

from __future__ import annotations

import json
import re
from typing import Any

from agentctl.errors import UsageError

Json = dict[str, Any]
_TRANSPORTS = {"http": "http", "streamable-http": "http", "streamableHttp": "http", "sse": "sse"}
_FOREIGN = re.compile(r"\$\{(?!(?:env:)?[A-Za-z_][A-Za-z0-9_]*(?::-[^}]*)?\})[^}]*\}|\$\{workspaceFolder\}")
_PLAIN = (str, int, float)


def mcp_from_json(text: str, option: str) -> list[Json]:
    """One server with its ``name``, or ``{"mcpServers": {name: server}}``. Raise ``UsageError``, with ``option``."""
    try:
        given = json.loads(text)
    except ValueError as e:
        raise UsageError(f"{option}: this is not JSON: {e}") from e
    named = given.get("mcpServers") if isinstance(given, dict) else None
    if named is None and isinstance(given, dict) and isinstance(given.get("name"), str):
        named = {given["name"]: given}
    if not isinstance(named, dict):
        raise UsageError(
            f"{option}: this JSON is not an MCP server.",
            hint='Write {"name":"x","command":"…","args":[]} or {"name":"x","url":"https://…"}.',
        )
    return [_server(name, server, f"{option}: the server '{name}'") for name, server in named.items()]


def _server(name: str, given: Any, where: str) -> Json:
    if not isinstance(given, dict) or not name.strip():
        raise UsageError(f"{where} is no object with a name.")
    foreign = _FOREIGN.search(json.dumps(given))
    if foreign:
        raise UsageError(f"{where} has {foreign[0]}, which only an editor can fill in.", hint="Write ${NAME} there.")
    if "url" in given:
        return _remote(name, given, where)
    command, args, kind = given.get("command"), given.get("args", []), given.get("type", "stdio")
    if kind not in ("stdio", "local"):
        raise UsageError(f"{where} has the type {kind!r}, but no url.", hint="It is one of: stdio, http, sse.")
    if not isinstance(command, str) or not command:
        raise UsageError(f"{where} has neither a command nor a url.")
    if not isinstance(args, list) or not all(isinstance(arg, _PLAIN) for arg in args):
        raise UsageError(f"{where} has args that are no list of texts.")
    env = _named(given.get("env"), f"{where}: env")
    return {"name": name, "command": command, "args": [str(arg) for arg in args], "env": env}


def _remote(name: str, given: Json, where: str) -> Json:
    url, kind = given["url"], given.get("type", "http")
    if kind not in _TRANSPORTS:
        raise UsageError(f"{where} has the unknown transport {kind!r}.", hint="It is one of: http, sse, stdio.")
    if not isinstance(url, str) or not url.startswith(("http://", "https://", "${")):
        raise UsageError(f"{where} needs an http:// or https:// url.")
    return {
        "type": _TRANSPORTS[kind],
        "name": name,
        "url": url,
        "headers": _named(given.get("headers"), f"{where}: headers"),
    }


def _named(values: Any, where: str) -> list[Json]:
    """ACP wants ``[{"name", "value"}]``; people write ``{name: value}``."""
    pairs = [{"name": k, "value": v} for k, v in values.items()] if isinstance(values, dict) else values or []
    if not isinstance(pairs, list) or not all(
        isinstance(pair, dict) and isinstance(pair.get("name"), str) and isinstance(pair.get("value"), _PLAIN)
        for pair in pairs
    ):
        raise UsageError(f"{where} must be names with texts.")
    return [{"name": pair["name"], "value": str(pair["value"])} for pair in pairs]
