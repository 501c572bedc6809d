"""A stdio MCP server with one tool, ``shout``: it answers its argument with what the server was given at its start.

``python mcp_probe.py ARGS…`` answers ``{"shouted", "PROBE_TOKEN", "cwd", "argv"}`` as JSON text, so that a test can see
the command's arguments, environment and directory arrive. It is run as a plain file and imports no package of ours.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

TOOL = {
    "name": "shout",
    "description": "Answer the text in capitals, and how this server was started.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The result of one request, or None for a method this server does not have."""
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "probe", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [TOOL]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": _shout(params["arguments"]["text"])}]}
    return {} if method == "ping" else None


def _shout(text: str) -> str:
    found = {
        "shouted": text.upper(),
        "PROBE_TOKEN": os.environ.get("PROBE_TOKEN"),
        "cwd": os.getcwd(),
        "argv": sys.argv[1:],
    }
    return json.dumps(found)


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        result = answer(message["method"], message.get("params") or {})
        missing = {"error": {"code": -32601, "message": f"no method {message['method']}"}}
        outcome = missing if result is None else {"result": result}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **outcome}), flush=True)


if __name__ == "__main__":
    main()
