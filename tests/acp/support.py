"""An agent in memory, a recording handler, the recorded traces, and the official schema as a judge of our frames."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

from acp import schema  # noqa: TID251 the official models judge what we send

from agentctl.acp.connection import Connection, Handler

TRACES = Path(__file__).parents[3] / "shared" / "traces"

_MODELS = {
    "initialize": schema.InitializeRequest,
    "authenticate": schema.AuthenticateRequest,
    "session/new": schema.NewSessionRequest,
    "session/load": schema.LoadSessionRequest,
    "session/resume": schema.ResumeSessionRequest,
    "session/close": schema.CloseSessionRequest,
    "session/prompt": schema.PromptRequest,
    "session/cancel": schema.CancelNotification,
    "session/set_mode": schema.SetSessionModeRequest,
    "$/cancel_request": schema.CancelRequestNotification,
}
_NOT_IN_SCHEMA = {"session/set_model", "_x/echo"}  # removed in 2026, but agents still answer it; and a vendor's own


def judge(frame: dict) -> None:
    """Raise unless the official schema accepts a request or notification of ours."""
    assert frame["jsonrpc"] == "2.0"
    method = frame.get("method")
    if method == "session/set_config_option":
        boolean = frame["params"].get("type") == "boolean"
        model = schema.SetSessionConfigOptionBooleanRequest if boolean else schema.SetSessionConfigOptionSelectRequest
        model.model_validate(frame["params"])
    elif method is not None and method not in _NOT_IN_SCHEMA:
        _MODELS[method].model_validate(frame["params"])


class Recorder(Handler):
    """Keeps what it hears, in order, and has every frame of ours judged."""

    def __init__(self):
        self.heard = []
        self.frames_sent = []
        self.flushes = 0
        self.closed_with = None

    def notification(self, frame, line):
        self.heard.append(("notification", frame, line))

    def request(self, frame, line):
        self.heard.append(("request", frame, line))

    def response(self, method, frame, line):
        self.heard.append(("response", frame, line))

    def garbage(self, line, reason):
        self.heard.append(("garbage", reason, line))

    def sent(self, frame):
        self.frames_sent.append(frame)

    def flushed(self):
        self.flushes += 1

    def closed(self, reason):
        assert self.closed_with is None, "closed is told once"
        self.closed_with = reason

    def kinds(self):
        return Counter(kind for kind, *_ in self.heard)

    def reasons(self):
        return [what for kind, what, _ in self.heard if kind == "garbage"]


class MemorySink:
    """Our end of the agent's stdin. ``on_frame`` sees each frame as it is written."""

    def __init__(self, on_frame=lambda frame: None):
        self.on_frame = on_frame
        self.closed = False

    def write(self, data):
        assert data.endswith(b"\n")
        assert data.count(b"\n") == 1
        self.on_frame(json.loads(data))

    async def drain(self):
        pass

    def close(self):
        self.closed = True


class ScriptedAgent:
    """Answers requests from a table: method → result, exception-like ``{"error": …}``, or a function of the params."""

    def __init__(self, answers=None):
        self.answers = answers or {}
        self.source = asyncio.StreamReader(limit=2**26)
        self.sink = MemorySink(self._receive)
        self.received = []

    def say(self, *frames):
        for frame in frames:
            self.source.feed_data(json.dumps({"jsonrpc": "2.0", **frame}).encode() + b"\n")

    def update(self, **update):
        self.say({"method": "session/update", "params": {"sessionId": "s1", "update": update}})

    def _receive(self, frame):
        judge(frame)
        self.received.append(frame)
        if "method" not in frame or frame["method"] not in self.answers or "id" not in frame:
            return
        answer = self.answers[frame["method"]]
        if callable(answer):
            answer = answer(frame["params"])
        if answer is None:
            return
        body = answer if set(answer) <= {"error"} and answer else {"result": answer}
        self.say({"id": frame["id"], **body})

    def asked(self, method):
        return [frame["params"] for frame in self.received if frame.get("method") == method]


class Running:
    """``async with Running(source, sink) as (connection, recorder)``: the read loop runs until the block ends."""

    def __init__(self, source, sink, handler=None, **options):
        self.recorder = handler or Recorder()
        self.connection = Connection(source, sink, self.recorder, **options)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.connection.run())
        return self.connection, self.recorder

    async def __aexit__(self, *_):
        self.connection.close()
        await asyncio.wait_for(self.task, 5)


def trace_files():
    return sorted(TRACES.glob("*/canon-*.jsonl"))


def read_trace(path):
    """The frames of a trace as ``(direction, frame)``."""
    entries = map(json.loads, path.read_text().splitlines())
    return [(entry["dir"], entry["msg"]) for entry in entries if entry["dir"] in ("a2c", "c2a")]


class Balance:
    """Checks that items start once, complete once, and get deltas in between."""

    def __init__(self):
        self.open = {}
        self.completed = {}

    def take(self, drafts):
        for draft in drafts:
            if draft.type == "item.started":
                item = draft.data["item"]
                assert item["item_id"] not in self.open | self.completed
                self.open[item["item_id"]] = item
            elif draft.type == "item.delta":
                assert draft.data["item_id"] in self.open
            elif draft.type == "item.updated":
                assert draft.data["item"]["item_id"] in self.open | self.completed
            elif draft.type == "item.completed":
                item = draft.data["item"]
                del self.open[item["item_id"]]
                self.completed[item["item_id"]] = item
        return drafts
