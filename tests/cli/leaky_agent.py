"""An ACP agent that tells every secret it was given, wherever an agent can say anything: ``leaky_agent.py NAME…``.

The variables ``NAME…`` and the headers of its MCP servers are what it tells. Run as a plain file; imports nothing of
ours. It can load a session, so that it is found again after a restart.
"""

from __future__ import annotations

import json
import os
import sys


def send(frame):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **frame}) + "\n")
    sys.stdout.flush()


def update(variant, /, **fields):
    send({"method": "session/update", "params": {"sessionId": "leaky", "update": {"sessionUpdate": variant, **fields}}})


def pieces(text, size=3):
    return [text[at : at + size] for at in range(0, len(text), size)]


def tell(secret, number):
    for kind in ("agent_message_chunk", "agent_thought_chunk"):
        for piece in pieces(f"It is {secret}, or s."):
            update(kind, content={"type": "text", "text": piece})
    tool(secret, f"call-{number}")
    update("plan", entries=[{"content": f"Use {secret}", "priority": "low", "status": "pending"}])
    update("session_info_update", title=f"About {secret}")
    update("usage_update", used=1, size=2, note=secret)
    update("never_heard_of", note=secret)
    update("available_commands_update", availableCommands=[{"name": "x", "description": secret}])
    print(f"no frame: {secret}", flush=True)
    for piece in pieces(secret, 5):
        sys.stderr.write(piece)
        sys.stderr.flush()
    sys.stderr.write("\n")


def tool(secret, call):
    command = f"curl -H 'Authorization: Bearer {secret}'"
    update("tool_call", toolCallId=call, title=command, kind="execute", status="pending", rawInput={"command": command})
    for piece in pieces(f"$ {secret}\n", 7):
        update(
            "tool_call_update",
            toolCallId=call,
            status="in_progress",
            _meta={"terminal_output_delta": {"data": piece, "terminal_id": call}},
        )
    said = [{"type": "content", "content": {"type": "text", "text": json.dumps({"stdout": secret})}}]
    update("tool_call_update", toolCallId=call, status="completed", content=said, rawOutput={"output": secret})


def answer(frame, secrets):
    method, params = frame["method"], frame.get("params") or {}
    if method == "initialize":
        return {"protocolVersion": 1, "agentCapabilities": {"loadSession": True, "mcpCapabilities": {"http": True}}}
    if method in ("session/new", "session/load"):
        for server in params["mcpServers"]:
            secrets += [header["value"].removeprefix("Bearer ") for header in server.get("headers", [])]
        if method == "session/load":
            update("user_message_chunk", content={"type": "text", "text": f"tell me {secrets}"})
            tell(secrets[0], 99)
        return {"sessionId": "leaky"}
    if method == "session/prompt":
        prompt = params["prompt"][0]["text"]
        for number, secret in enumerate(secrets):
            tell(secret, number)
        if "crash" in prompt:
            os._exit(3)
        if "fail" in prompt:
            raise ValueError(" and ".join(secrets))
        return {"stopReason": "end_turn"}
    raise ValueError(f"no {method} for {' '.join(secrets)}")


def main():
    secrets = [os.environb[name.encode()].decode() for name in sys.argv[1:]]
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")
    for line in sys.stdin:
        frame = json.loads(line)
        if "id" not in frame or "method" not in frame:
            continue
        try:
            send({"id": frame["id"], "result": answer(frame, secrets)})
        except ValueError as e:
            send({"id": frame["id"], "error": {"code": -32603, "message": str(e), "data": {"why": str(e)}}})


main()
