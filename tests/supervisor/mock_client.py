"""A client of the mock agent that checks every frame against the official models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from acp import schema  # noqa: TID251 the official models judge what we send

PROGRAM = Path(__file__).resolve().parents[2] / "agentctl/supervisor/mock/agent.py"
RESULTS = {
    "initialize": schema.InitializeResponse,
    "authenticate": schema.AuthenticateResponse,
    "session/new": schema.NewSessionResponse,
    "session/load": schema.LoadSessionResponse,
    "session/resume": schema.ResumeSessionResponse,
    "session/list": schema.ListSessionsResponse,
    "session/close": schema.CloseSessionResponse,
    "session/delete": schema.DeleteSessionResponse,
    "session/set_mode": schema.SetSessionModeResponse,
    "session/set_config_option": schema.SetSessionConfigOptionResponse,
    "session/prompt": schema.PromptResponse,
}
ASKED = {
    "session/update": schema.SessionNotification,
    "session/request_permission": schema.RequestPermissionRequest,
    "elicitation/create": schema.CreateFormSessionElicitationRequest,
    "fs/read_text_file": schema.ReadTextFileRequest,
}


def check(model, value):
    """Valid, and nothing in it that the model does not know."""
    assert model.model_validate(value).model_dump(mode="json", by_alias=True, exclude_unset=True) == value


class Refused(Exception):
    def __init__(self, error):
        super().__init__(error)
        self.code = error["code"]


class MockClient:
    """Drives one mock agent. ``updates`` and ``requests`` collect what it sent; ``answers`` maps a method to the result
    that its requests get. ``checked`` off lets faults through."""

    def __init__(self, home, *flags, env=None, checked=True, capabilities=None):
        environ = {"PATH": os.environ["PATH"], "HOME": str(home), **(env or {})}
        self.process = subprocess.Popen(
            [sys.executable, "-IS", str(PROGRAM), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
        )
        self.home = home
        self.checked = checked
        self.capabilities = capabilities or {}
        self.updates, self.requests, self.garbage = [], [], []
        self.answers = {}
        self.session_id = None
        self._last_id = 100

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(BrokenPipeError):
                pipe.close()

    def send(self, frame):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **frame}).encode() + b"\n")
        self.process.stdin.flush()

    def notify(self, method, **params):
        self.send({"method": method, "params": params})

    def begin(self, method, **params):
        """Send a request; its id."""
        self._last_id += 1
        self.send({"id": self._last_id, "method": method, "params": params})
        return self._last_id

    def receive(self):
        """The next frame, checked; None at the end. Requests are answered, updates collected."""
        line = self.process.stdout.readline()
        if not line:
            return None
        try:
            frame = json.loads(line)
        except ValueError:
            frame = None
        if not isinstance(frame, dict):
            self.garbage.append(line)
            return self.receive()
        if "method" in frame:
            self._asked(frame)
        return frame

    def _asked(self, frame):
        assert frame["jsonrpc"] == "2.0"
        if self.checked:
            check(ASKED[frame["method"]], frame["params"])
        if "id" not in frame:
            self.updates.append(frame["params"].get("update"))
            return
        self.requests.append(frame)
        answer = self.answers.get(frame["method"])
        if answer is not None:
            answer = answer(frame) if callable(answer) else answer
            self.send({"id": frame["id"], **({"error": answer["error"]} if "error" in answer else {"result": answer})})

    def until(self, test):
        """Read frames until one passes; that one."""
        while (frame := self.receive()) is not None:
            if test(frame):
                return frame
        raise EOFError(self.process.wait())

    def finish(self, request_id, method):
        """The result of a request that was begun."""
        frame = self.until(lambda frame: frame.get("id") == request_id and "method" not in frame)
        if "error" in frame:
            raise Refused(frame["error"])
        if self.checked and frame["result"] is not None:
            check(RESULTS[method], frame["result"])
        return frame["result"]

    def request(self, method, **params):
        return self.finish(self.begin(method, **params), method)

    def initialize(self):
        return self.request("initialize", protocolVersion=1, clientCapabilities=self.capabilities)

    def open(self, cwd="/", **params):
        self.initialize()
        result = self.request("session/new", cwd=str(cwd), mcpServers=params.pop("mcpServers", []), **params)
        self.session_id = result["sessionId"]
        self.until(lambda frame: "available_commands_update" in str(frame))
        return result

    def begin_prompt(self, *blocks):
        blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
        return self.begin("session/prompt", sessionId=self.session_id, prompt=blocks)

    def prompt(self, *blocks):
        """Run a turn; its result. ``updates`` and ``requests`` are those of this turn."""
        self.updates, self.requests = [], []
        return self.finish(self.begin_prompt(*blocks), "session/prompt")

    def say(self, *blocks):
        """Run a turn; its text."""
        self.prompt(*blocks)
        return self.text()

    def of(self, variant):
        return [update for update in self.updates if update["sessionUpdate"] == variant]

    def text(self, variant="agent_message_chunk"):
        return "".join(update["content"]["text"] for update in self.of(variant))


def choose(kind):
    """Answer permissions with the option of a kind."""

    def answer(frame):
        chosen = next(o["optionId"] for o in frame["params"]["options"] if o["kind"] == kind)
        return {"outcome": {"outcome": "selected", "optionId": chosen}}

    return answer
