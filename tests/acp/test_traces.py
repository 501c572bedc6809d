"""Every recorded frame of every agent: translated, kept, balanced."""

from __future__ import annotations

import json

import pytest

from agentctl import events
from agentctl.acp.permissions import choose_option, decide
from agentctl.acp.session_config import SessionConfig
from agentctl.acp.translate import Translator
from tests.acp.support import TRACES, Balance, read_trace, trace_files

pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason="the recorded traces lie beside the checkout")

AGENTS = ("claude", "codex", "codexzed", "opencode", "gemini", "pi")


class Replay:
    """Plays a trace into a translator the way a session does; keeps the drafts per frame."""

    def __init__(self, path):
        self.translator = Translator(config=SessionConfig())
        self.balance = Balance()
        self.per_frame = []
        self.drafts = []
        self.methods = {}
        self.rejected = False
        for direction, frame in read_trace(path):
            (self.from_agent if direction == "a2c" else self.from_client)(frame)
        self.take(self.translator.end_turn(False))

    def take(self, drafts):
        self.drafts += self.balance.take(drafts)
        return drafts

    def from_client(self, frame):
        method = frame.get("method")
        if "id" in frame and method:
            self.methods[frame["id"]] = method
        if method == "session/load":
            self.translator.begin_replay()
        elif method == "session/prompt":
            if self.translator.replaying:
                self.take(self.translator.end_replay())
            self.take(self.translator.user_message(frame["params"]["prompt"][0]["text"]))
        elif "result" in frame and "outcome" in frame["result"]:
            self.answered(frame)

    def answered(self, frame):
        chosen = frame["result"]["outcome"].get("optionId")
        option = next(o for o in self.asked["options"] if o["optionId"] == chosen)
        if option["kind"].startswith("reject"):
            self.rejected = True
            self.translator.rejected(self.asked["toolCall"]["toolCallId"], "rejected by the user")

    def from_agent(self, frame):
        line = json.dumps(frame).encode()
        method = frame.get("method")
        if method == "session/request_permission":
            self.asked = frame["params"]
            self.per_frame.append((line, self.take(self.translator.permission(frame["params"], line))))
        elif method:
            self.per_frame.append((line, self.take(self.translator.notification(frame, line))))
        elif self.methods.get(frame["id"]) == "session/prompt":
            self.take(self.translator.prompt_result(frame.get("result", {}), line))
            self.take(self.translator.end_turn(frame.get("result", {}).get("stopReason") == "cancelled"))
        elif "result" in frame:
            self.translator.config.take_result(frame["result"])
            self.take(self.translator.config_changed())

    def items(self, kind, *, replayed=False):
        return [
            draft.data["item"]
            for draft in self.drafts
            if draft.type == "item.completed"
            and draft.data["item"]["kind"] == kind
            and draft.data.get("replayed", False) == replayed
        ]


def trace(agent, scenario):
    return Replay(TRACES / agent / f"canon-{scenario}.jsonl")


@pytest.mark.parametrize("path", trace_files(), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_frame_is_kept_once_and_every_item_ends(path):
    replay = Replay(path)
    for line, drafts in replay.per_frame:
        assert [draft.raw for draft in drafts] == [line] + [None] * (len(drafts) - 1)
    assert not replay.balance.open
    unparsed = {d.data["error"] for d in replay.drafts if d.type == "agent.unparsed"}
    assert unparsed <= {"unknown notification _auth/status_update"}
    json.dumps([draft.data for draft in replay.drafts])


@pytest.mark.parametrize("agent", AGENTS)
def test_text_and_thought_arrive_whole(agent):
    replay = trace(agent, "text")
    assert replay.items("reasoning")
    text = "".join(events.text_of(item) for item in replay.items("message") if item["role"] == "assistant")
    chunks = [
        frame["params"]["update"]["content"]["text"]
        for frame in map(json.loads, (line for line, _ in replay.per_frame))
        if frame["params"].get("update", {}).get("sessionUpdate") == "agent_message_chunk"
    ]
    assert text == "".join(chunks) != ""


@pytest.mark.parametrize("agent", AGENTS)
def test_a_shell_tool_has_its_command_and_its_output(agent):
    replay = trace(agent, "tool-allow")
    [call], [result] = replay.items("tool_call"), replay.items("tool_result")
    assert call["status"] == result["status"] == "completed"
    assert call["tool"]["kind"] == "execute"
    assert "echo canon-tool" in call["tool"]["title"]
    assert result["parent_id"] == call["item_id"]
    output = next(part["output"] for part in result["content"] if part["type"] == "tool_result")
    if agent == "gemini":  # it tells nobody but its model
        assert [part["label"] for part in result["content"] if part["type"] == "status"] == ["output not reported"]
        assert (output, result["exit_code"]) == ("", None)
    else:
        assert output.strip() == "canon-tool"
        assert not [part for part in result["content"] if part["type"] == "status"]
        assert result["exit_code"] == (None if agent == "claude" else 0)


@pytest.mark.parametrize("agent", ["codex", "pi"])
def test_terminal_output_streams_into_the_result(agent):
    replay = trace(agent, "tool-allow")
    [result] = replay.items("tool_result")
    deltas = [
        d.data["delta"] for d in replay.drafts if d.type == "item.delta" and d.data["item_id"] == result["item_id"]
    ]
    assert "".join(deltas) == "canon-tool\n"


@pytest.mark.parametrize("agent", ["claude", "codex", "codexzed", "opencode", "gemini"])
def test_a_rejected_tool_ends_failed_even_if_never_heard_of_again(agent):
    replay = trace(agent, "tool-reject")
    assert replay.rejected
    [call] = replay.items("tool_call")
    assert call["status"] == "failed"


@pytest.mark.parametrize("agent", AGENTS)
def test_a_replayed_history_is_marked_and_apart_from_the_live_turn(agent):
    replay = trace(agent, "load-2")
    replayed = list(map(events.text_of, replay.items("message", replayed=True)))
    assert any("codeword KIWI" in text for text in replayed)
    assert replay.items("tool_call", replayed=True)
    live = [item for item in replay.items("message") if item["role"] == "assistant"]
    assert "RECALL<<codeword KIWI" in "".join(map(events.text_of, live))
    assert not any(text.startswith("RECALL") for text in replayed)


@pytest.mark.parametrize("agent", ["codex", "pi"])
def test_output_that_follows_a_completed_call_in_a_replay_is_found(agent):
    [result] = trace(agent, "load-2").items("tool_result", replayed=True)
    assert result["content"][0]["output"] == "in-history\n"
    assert result["exit_code"] == 0


@pytest.mark.parametrize("agent", ["claude", "codex", "codexzed", "opencode", "gemini"])
def test_each_real_permission_request_is_decided_and_answerable(agent):
    replay = trace(agent, "tool-allow")
    call = replay.translator.tool_call(replay.asked["toolCall"]["toolCallId"])
    options = replay.asked["options"]
    assert decide("ask", {}, call, options).effect == "ask"
    assert decide("accept-edits", {}, call, options).effect == "ask"
    assert decide("allow", {}, call, options).effect == "allow"
    echo = {"allow": [{"kind": "execute", "pattern": "echo *"}]}
    redirected = "> c.txt" in call["title"]
    assert decide("deny", echo, call, options).effect == ("deny" if redirected else "allow")
    kinds = {option["optionId"]: option["kind"] for option in options}
    chosen = [kinds[choose_option(options, want)] for want in ("once", "always", "reject")]
    assert chosen == ["allow_once", "allow_always", "reject_once"]
