"""The agent in the pictures: an ACP program that plays one turn, the same each time. Run as a plain file."""

from __future__ import annotations

import json
import sys
from itertools import count

BEFORE = """\
from decimal import Decimal


def total(items):
    return sum(item.price for item in items)
"""
AFTER = """\
from decimal import Decimal


def total(items):
    \"\"\"What all items cost together.\"\"\"
    return sum((item.price * item.quantity for item in items), Decimal(0))
"""
STEPS = ("See what fails", "Count the quantity", "Run the tests")
ANSWER = """\
`total` added up the prices and never looked at the quantity. It does now, and it starts at `Decimal(0)`,
so that an empty cart costs **0** as well.

- `cart.py`: one line, and a docstring
- all **14 tests** pass
"""
OPTIONS = (("once", "allow_once", "Allow"), ("always", "allow_always", "Always allow"), ("no", "reject_once", "Reject"))
_ids = count(1)


def send(**frame):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **frame}) + "\n")
    sys.stdout.flush()


def update(variant, /, **fields):
    send(method="session/update", params={"sessionId": "shop", "update": {"sessionUpdate": variant, **fields}})


def say(text, kind="agent_message_chunk"):
    for word in text.split(" "):
        update(kind, content={"type": "text", "text": word + " "})


def plan(done):
    states = ["completed"] * done + ["in_progress"] + ["pending"] * len(STEPS)
    entries = [{"content": s, "priority": "medium", "status": state} for s, state in zip(STEPS, states, strict=False)]
    update("plan", entries=entries)


def tool(kind, title, output="", *, status="completed", exit_code=None, content=(), ask=False):
    call = f"call-{next(_ids)}"
    update("tool_call", toolCallId=call, title=title, kind=kind, status="pending", content=list(content), rawInput={})
    if ask:
        about = {"toolCallId": call, "title": title, "kind": kind, "content": list(content)}
        options = [{"optionId": o, "kind": k, "name": n} for o, k, n in OPTIONS]
        params = {"sessionId": "shop", "toolCall": about, "options": options}
        send(id=call, method="session/request_permission", params=params)
        while json.loads(sys.stdin.readline()).get("id") != call:
            pass
    text = [{"type": "content", "content": {"type": "text", "text": output}}] if output else []
    raw = {} if exit_code is None else {"rawOutput": {"output": output, "exit_code": exit_code}}
    update("tool_call_update", toolCallId=call, status=status, content=[*content, *text], **raw)


def turn(request_id):
    say("The tests know what the total should be: I look at them first.", "agent_thought_chunk")
    plan(0)
    tool("execute", "`python -m unittest -q`", "FAIL: test_total (test_cart.CartTest)\nAssertionError: 9 != 24",
         status="failed", exit_code=1)  # fmt: skip
    plan(1)
    tool("edit", "Edit cart.py", ask=True,
         content=[{"type": "diff", "path": "cart.py", "oldText": BEFORE, "newText": AFTER}])  # fmt: skip
    plan(2)
    tool("execute", "`python -m unittest -q`", "Ran 14 tests in 0.021s\nOK", exit_code=0)
    plan(3)
    say(ANSWER)
    cost = {"amount": 0.0213, "currency": "USD"}
    update("usage_update", used=23_400, size=200_000, cost=cost)
    usage = {"inputTokens": 21_480, "outputTokens": 912, "totalTokens": 22_392}
    send(id=request_id, result={"stopReason": "end_turn", "usage": usage})


ANSWERS = {"initialize": {"protocolVersion": 1, "agentCapabilities": {}}, "session/new": {"sessionId": "shop"}}

for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "session/prompt":
        turn(message["id"])
    elif "id" in message and "method" in message:
        send(id=message["id"], result=ANSWERS.get(message["method"], {}))
