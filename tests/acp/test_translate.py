"""The translator: every variant, every order, and whatever an agent may send."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentctl import events
from agentctl.acp.session_config import SessionConfig
from agentctl.acp.translate import Translator, garbage
from tests.acp.support import Balance


class Play:
    """A translator with a balance sheet."""

    def __init__(self):
        self.translator = Translator()
        self.balance = Balance()
        self.drafts = []

    def __call__(self, variant, **fields):
        params = {"sessionId": "s1", "update": {"sessionUpdate": variant, **fields}}
        line = json.dumps(params).encode()
        drafts = self.translator.update(params, line)
        assert [d.raw for d in drafts] == [line] + [None] * (len(drafts) - 1)
        return self.keep(drafts)

    def keep(self, drafts):
        self.drafts += self.balance.take(drafts)
        return drafts

    def chunk(self, text, variant="agent_message_chunk", **fields):
        return self(variant, content={"type": "text", "text": text}, **fields)

    def tool(self, call_id="t1", variant="tool_call_update", **fields):
        return self(variant, toolCallId=call_id, **fields)

    def end_turn(self, cancelled=False):
        drafts = self.keep(self.translator.end_turn(cancelled))
        assert not self.balance.open
        return drafts

    def completed(self, kind):
        return [item for item in self.balance.completed.values() if item["kind"] == kind]


@pytest.fixture
def play():
    return Play()


def types(drafts):
    return [draft.type for draft in drafts]


def output(result):
    return next(part["output"] for part in result["content"] if part["type"] == "tool_result")


def labels(item):
    return [part["label"] for part in item["content"] if part["type"] == "status"]


# Messages


def test_chunks_of_one_message_are_one_item(play):
    assert types(play.chunk("Hel", messageId="m1")) == ["item.started", "item.delta"]
    assert types(play.chunk("lo", messageId="m1")) == ["item.delta"]
    assert types(play.end_turn()) == ["item.completed"]
    [item] = play.completed("message")
    assert item["content"] == [{"type": "text", "text": "Hello"}]
    assert (item["role"], item["status"], item["native_item_id"]) == ("assistant", "completed", "m1")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"messageId": "m1"}, {"messageId": "m2"}),
        ({"messageId": "m1"}, {}),
        ({}, {"variant": "agent_thought_chunk"}),
    ],
)
def test_another_id_or_kind_is_another_message(play, first, second):
    play.chunk("a", **first)
    assert types(play.chunk("b", **second)) == ["item.completed", "item.started", "item.delta"]


def test_chunks_without_ids_belong_together_until_another_item_starts(play):
    play.chunk("one ")
    play("usage_update", used=1, size=2)
    play.chunk("message")
    play.tool(variant="tool_call", title="ls", status="pending")
    play.tool(status="in_progress")
    play.chunk("after")
    play.end_turn()
    assert [events.text_of(item) for item in play.completed("message")] == ["one message", "after"]


def test_reasoning_is_an_item_of_its_own(play):
    play.chunk("hmm", variant="agent_thought_chunk")
    play.end_turn()
    [item] = play.completed("reasoning")
    assert item["content"] == [{"type": "reasoning", "text": "hmm", "visibility": "public"}]


def test_content_that_is_no_text_is_kept_untouched_in_its_place(play):
    image = {"type": "image", "data": "aGk=", "mimeType": "image/png", "_meta": {"x": 1}}
    play.chunk("before")
    assert types(play("agent_message_chunk", content=image)) == ["item.updated"]
    play.chunk("after")
    play.end_turn()
    [item] = play.completed("message")
    assert item["content"] == [
        {"type": "text", "text": "before"},
        {"type": "acp", "content": image},
        {"type": "text", "text": "after"},
    ]


def test_our_own_message_is_the_daemons_word_and_complete_at_once(play):
    block = {"type": "resource_link", "uri": "file:///a", "name": "a"}
    drafts = play.keep(play.translator.user_message("hi", [block]))
    assert types(drafts) == ["item.started", "item.completed"]
    assert {draft.source for draft in drafts} == {"daemon"}
    item = drafts[1].data["item"]
    assert (item["role"], item["content"]) == (
        "user",
        [{"type": "text", "text": "hi"}, {"type": "acp", "content": block}],
    )


def test_item_numbers_go_on_where_an_earlier_translator_stopped():
    translator = Translator(first_item=41)
    translator.user_message("x")
    assert translator.next_item == 42
    assert translator.user_message("y")[0].data["item"]["item_id"] == "itm_42"


# Tool calls


def test_a_tool_call_is_started_updated_completed_and_has_a_result(play):
    assert types(play.tool(variant="tool_call", title="Terminal", kind="execute", status="pending")) == ["item.started"]
    assert types(play.tool(title="ls", rawInput={"command": "ls"})) == ["item.updated"]
    assert types(play.tool(status="completed", rawOutput="a\nb")) == [
        "item.completed",
        "item.started",
        "item.completed",
    ]
    [call], [result] = play.completed("tool_call"), play.completed("tool_result")
    assert call["tool"] == {
        "call_id": "t1",
        "name": "ls",
        "title": "ls",
        "kind": "execute",
        "locations": [],
        "raw_input": {"command": "ls"},
    }
    assert call["content"][0]["arguments"] == '{"command": "ls"}'
    assert output(result) == "a\nb"
    assert (result["parent_id"], result["exit_code"]) == (call["item_id"], None)


def test_a_permission_request_may_be_the_first_sign_of_a_tool(play):
    asked = {"toolCall": {"toolCallId": "t9", "title": "rm x", "kind": "execute", "status": "pending"}, "options": []}
    drafts = play.keep(play.translator.permission(asked, b"line"))
    assert types(drafts) == ["item.started"]
    assert drafts[0].raw == b"line"
    assert play.translator.item_id("t9") == drafts[0].data["item"]["item_id"]
    assert play.translator.tool_call("t9")["title"] == "rm x"
    assert play.translator.tool_call("unknown") == {}
    assert types(play.tool("t9", status="completed")) == ["item.completed"]
    assert types(play.tool("t9", variant="tool_call", status="completed", kind="execute")) == ["item.updated"]
    play.end_turn()
    assert labels(play.completed("tool_result")[0]) == ["output not reported"]


def test_a_permission_neither_sets_back_the_status_nor_empties_lists(play):
    play.tool(variant="tool_call", status="in_progress", locations=[{"path": "/a"}], rawInput={"command": "x"})
    asked = {"toolCallId": "t1", "status": "pending", "locations": [], "content": [], "rawInput": {"command": "y"}}
    play.keep(play.translator.permission({"toolCall": asked}, None))
    call = play.translator.tool_call("t1")
    assert (call["status"], call["locations"], call["rawInput"]) == ("in_progress", [{"path": "/a"}], {"command": "y"})


def test_what_a_permission_describes_is_no_output(play):
    text = [{"type": "content", "content": {"type": "text", "text": "wants to run unsandboxed"}}]
    play.keep(play.translator.permission({"toolCall": {"toolCallId": "t1", "content": text}}, None))
    play.tool(status="completed", rawOutput={"aggregated_output": "real", "exit_code": 3})
    [result] = play.completed("tool_result")
    assert (output(result), result["exit_code"]) == ("real", 3)


@pytest.mark.parametrize(
    ("fields", "expected", "exit_code"),
    [
        ({"rawOutput": {"output": "o", "metadata": {"exit": 3}}}, "o", 3),
        ({"rawOutput": {"stdout": "o", "stderr": "e", "exit_code": 0}}, "oe", 0),
        ({"rawOutput": "text"}, "text", None),
        ({"rawOutput": [{"type": "text", "text": "blocks"}]}, "blocks", None),
        ({"rawOutput": {"result": {"content": [{"type": "text", "text": "mcp"}]}}}, "mcp", None),
        ({"rawOutput": {"error": "refused"}}, "refused", None),
        ({"content": [{"type": "content", "content": {"type": "text", "text": "shown"}}]}, "shown", None),
        ({"_meta": {"terminal_output": {"data": "t"}, "terminal_exit": {"exit_code": 1}}}, "t", 1),
        ({"_meta": {"terminal_output_delta": {"data": "d"}, "terminal_exit": {"exit_code": None}}}, "d", None),
        ({"_meta": {"claudeCode": {"toolResponse": {"stdout": "c", "stderr": ""}}}}, "c", None),
        ({"_meta": {"terminal_exit": {"exit_code": 0}}}, "", 0),
    ],
)
def test_output_and_exit_code_are_found_wherever_an_agent_puts_them(play, fields, expected, exit_code):
    play.tool(variant="tool_call", title="x", kind="execute", status="in_progress")
    play.tool(status="completed", **fields)
    [result] = play.completed("tool_result")
    assert (output(result), result["exit_code"], labels(result)) == (expected, exit_code, [])


def test_an_output_of_unknown_shape_is_kept_as_json(play):
    play.tool(variant="tool_call", status="completed", rawOutput={"rows": [1, 2]})
    [result] = play.completed("tool_result")
    assert {"type": "json", "json": {"rows": [1, 2]}} in result["content"]


def test_an_image_in_a_result_is_kept(play):
    image = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
    play.tool(status="completed", rawOutput="seen", content=[{"type": "content", "content": image}])
    [result] = play.completed("tool_result")
    assert output(result) == "seen"
    assert {"type": "acp", "content": image} in result["content"]


def test_terminal_output_streams_by_pieces_or_told_whole_again(play):
    play.tool(variant="tool_call", title="make", kind="execute", status="in_progress")
    first = play.tool(_meta={"terminal_output_delta": {"data": "one\n"}})
    assert types(first) == ["item.started", "item.delta"]
    assert types(play.tool(_meta={"terminal_output": {"data": "one\ntwo\n"}})) == ["item.delta"]
    assert types(play.tool(_meta={"terminal_output": {"data": "three\n"}})) == ["item.delta"]
    play.tool(status="completed", _meta={"terminal_exit": {"exit_code": 0}})
    [result] = play.completed("tool_result")
    assert output(result) == "one\ntwo\nthree\n"
    deltas = [draft.data["delta"] for draft in play.drafts if draft.type == "item.delta"]
    assert "".join(deltas) == output(result)


def test_streaming_output_does_not_split_a_message(play):
    play.tool(variant="tool_call", title="make", status="in_progress")
    play.chunk("wait")
    play.tool(_meta={"terminal_output_delta": {"data": "..."}})
    play.chunk("ing")
    play.end_turn()
    assert [events.text_of(item) for item in play.completed("message")] == ["waiting"]


def test_edits_become_unified_diffs_in_the_result(play):
    diff = {"type": "diff", "path": "/w/a.py", "oldText": "a\nb\n", "newText": "a\nc\n"}
    new = {"type": "diff", "path": "/w/new", "newText": "x\n"}
    play.tool(variant="tool_call", title="Edit", kind="edit", status="pending", content=[diff, new])
    play.tool(status="completed")
    [result] = play.completed("tool_result")
    refs = [part for part in result["content"] if part["type"] == "file_ref"]
    assert [(ref["path"], ref["action"]) for ref in refs] == [("/w/a.py", "patch"), ("/w/new", "write")]
    assert "-b\n+c\n" in refs[0]["diff"]
    assert labels(result) == []


def test_a_failed_edit_claims_no_changed_file(play):
    diff = {"type": "diff", "path": "/w/a.py", "oldText": "a", "newText": "b"}
    play.tool(variant="tool_call", kind="edit", content=[diff])
    play.tool(status="failed", rawOutput={"error": "no"})
    [result] = play.completed("tool_result")
    assert result["status"] == "failed"
    assert not [part for part in result["content"] if part["type"] == "file_ref"]


def test_a_frame_that_changes_nothing_is_still_kept(play):
    play.tool(variant="tool_call", title="x", status="in_progress")
    assert types(play.tool(status="in_progress")) == ["item.updated"]


def test_null_fields_mean_unchanged(play):
    play.tool(variant="tool_call", title="x", kind="read", status="in_progress")
    play.tool(title=None, kind=None, status=None, content=None, rawInput=None)
    call = play.translator.tool_call("t1")
    assert (call["title"], call["kind"], call["status"]) == ("x", "read", "in_progress")


# The end of a turn


def test_open_tool_calls_of_a_cancelled_turn_have_failed(play):
    play.tool(variant="tool_call", title="sleep 100", status="in_progress")
    play.tool(_meta={"terminal_output_delta": {"data": "zzz"}})
    drafts = play.end_turn(cancelled=True)
    [call], [result] = play.completed("tool_call"), play.completed("tool_result")
    assert (call["status"], labels(call)) == ("failed", ["cancelled"])
    assert (result["status"], output(result)) == ("failed", "zzz")
    assert all(draft.synthetic and draft.source == "daemon" for draft in drafts)


def test_a_rejected_call_that_is_never_heard_of_again_is_closed_with_the_reason(play):
    play.tool(variant="tool_call", title="rm", status="pending")
    play.translator.rejected("t1", "denied by policy deny[0]")
    play.translator.rejected("never seen", "ignored")
    play.end_turn()
    [call] = play.completed("tool_call")
    assert call["status"] == "failed"
    assert call["content"][-1] == {"type": "status", "label": "rejected", "detail": "denied by policy deny[0]"}


def test_a_command_that_outlives_its_turn_is_not_called_finished_and_ends_later(play):
    play.tool(variant="tool_call", title="make", kind="execute", status="in_progress")
    play.tool(_meta={"terminal_output_delta": {"data": "early "}})
    play.end_turn()
    [call] = play.completed("tool_call")
    assert (call["status"], labels(call)) == ("in_progress", ["not ended"])
    assert types(play.tool(_meta={"terminal_output_delta": {"data": "late"}})) == ["item.started", "item.delta"]
    late = play.tool(status="completed", _meta={"terminal_exit": {"exit_code": 2}})
    assert types(late) == ["item.updated", "item.completed"]
    assert late[0].data["item"]["status"] == "completed"
    assert [output(result) for result in play.completed("tool_result")] == ["early ", "late"]
    assert late[1].data["item"]["exit_code"] == 2
    play.end_turn()


def test_a_late_end_without_any_output_says_so_when_something_else_begins(play):
    play.tool(variant="tool_call", title="x", kind="execute", status="in_progress")
    play.end_turn()
    assert types(play.tool(status="completed")) == ["item.updated"]
    play.chunk("next")
    assert labels(play.completed("tool_result")[0]) == ["output not reported"]


def test_an_exit_code_that_comes_after_the_result_updates_it(play):
    play.tool(variant="tool_call", title="x", kind="execute", status="completed", rawOutput="out")
    drafts = play.tool(rawOutput={"output": "out", "metadata": {"exit": 4}})
    assert types(drafts) == ["item.updated", "item.updated"]
    assert drafts[1].data["item"]["exit_code"] == 4


def test_ended_calls_are_forgotten_after_some_turns_and_running_ones_are_not(play):
    play.tool("done", variant="tool_call", status="completed", rawOutput="x")
    play.tool("running", variant="tool_call", status="in_progress")
    for _ in range(3):
        play.end_turn()
    assert play.translator.tool_call("done") == {}
    assert play.translator.tool_call("running")


def test_end_turn_twice_says_nothing_the_second_time(play):
    play.chunk("x")
    play.end_turn()
    assert play.end_turn() == []


# Plans, notices, compaction, sub-agents


def entries(*states):
    return [{"content": f"step {n}", "priority": "high", "status": state} for n, state in enumerate(states)]


def test_a_plan_is_one_item_that_changes_in_place(play):
    assert types(play("plan", entries=entries("pending", "pending"))) == ["item.started"]
    assert types(play("plan", entries=entries("completed", "in_progress"))) == ["item.updated"]
    assert types(play("plan", entries=entries("completed", "completed"))) == ["item.completed"]
    [plan] = play.completed("plan")
    assert plan["content"] == [{"type": "json", "json": {"entries": entries("completed", "completed")}}]
    play.end_turn()


def test_an_unfinished_plan_completes_with_the_turn(play):
    play("plan", entries=entries("pending"))
    play.end_turn(cancelled=True)
    assert play.completed("plan")[0]["status"] == "completed"


def test_plans_by_id_are_apart_and_can_be_removed(play):
    play("plan_update", plan={"type": "items", "planId": "a", "entries": entries("pending")})
    play("plan_update", plan={"type": "markdown", "planId": "b", "content": "# do"})
    assert types(play("plan_removed", planId="a")) == ["item.completed"]
    assert types(play("plan_removed", planId="never seen")) == ["item.started", "item.completed"]
    play.end_turn()
    assert {item["native_item_id"] for item in play.completed("plan")} == {"a", "b", "never seen"}


def test_a_notice_is_a_status_item(play):
    play("notice", severity="warning", title="Slow", description="The server is busy")
    [item] = play.completed("status")
    assert item["content"] == [{"type": "status", "label": "Slow", "detail": "The server is busy"}]
    assert item["severity"] == "warning"


def test_a_compaction_is_a_status_item_with_its_summary(play):
    play("compaction_update", compactionId="c1", status="in_progress")
    drafts = play("compaction_summary_chunk", compactionId="c1", content={"type": "text", "text": "we did x"})
    assert types(drafts) == ["item.delta"]
    play("compaction_update", compactionId="c1", status="completed")
    [item] = play.completed("status")
    assert events.text_of(item) == "we did x"
    assert labels(item) == ["compaction"]
    play("compaction_update", compactionId="c2", status="failed", error="too long")
    assert play.completed("status")[1]["status"] == "failed"
    play("compaction_summary_chunk", compactionId="c3", content={"type": "text", "text": "no start was told"})
    play.end_turn()


def test_subagents_and_session_messages_are_items(play):
    play("subagent_update", sessionId="sub", title="Look", state={"state": "running"})
    assert types(play("subagent_update", sessionId="sub", state={"state": "idle"})) == ["item.completed"]
    play("session_message", messageId="m", content=[{"type": "text", "text": "hi"}])
    play("session_message_chunk", messageId="n", content={"type": "text", "text": "more"})
    play.end_turn()
    assert [item["role"] for item in play.completed("message")] == ["system", "system"]


# Settings, commands, usage


MODES = {
    "id": "mode",
    "category": "mode",
    "type": "select",
    "currentValue": "a",
    "options": [{"value": "a"}, {"value": "b"}],
}


def test_config_options_are_told_whole_when_they_change_and_not_again(play):
    [draft] = play("config_option_update", configOptions=[MODES])
    assert draft.type == "session.config_changed"
    assert draft.data["changed"] == ["mode", "options"]
    assert (draft.data["mode"], draft.data["options"]) == ("a", [MODES])
    [draft] = play("session_info_update", title="A title", updatedAt="2026-11-21T08:00:00Z")
    assert (draft.data["changed"], draft.data["title"], draft.data["options"]) == (["title"], "A title", None)
    [draft] = play("session_info_update", title=None)
    assert (draft.data["changed"], draft.data["title"]) == (["title"], None)


def test_a_mode_switch_is_told_and_kept_in_the_option(play):
    play("config_option_update", configOptions=[MODES])
    [draft] = play("current_mode_update", currentModeId="b")
    assert draft.data["mode"] == "b"
    [draft] = play("current_mode_update", modeId="a")
    assert draft.data["mode"] == "a"


def test_thinking_levels_that_call_themselves_modes_do_not_become_the_mode(play):
    thought = {"id": "t", "category": "thought_level", "type": "select", "currentValue": "low", "options": []}
    play("config_option_update", configOptions=[thought])
    [draft] = play("current_mode_update", currentModeId="low")
    assert (draft.data["mode"], draft.data["thought_level"], draft.data["changed"]) == (None, "low", [])


def test_session_info_with_only_meta_keeps_it(play):
    meta = {"codex": {"threadStatus": {"type": "systemError"}}}
    [draft] = play("session_info_update", _meta=meta)
    assert (draft.data["meta"], draft.data["changed"]) == (meta, [])


def test_what_the_client_took_is_told_on_demand_and_once():
    config = SessionConfig()
    translator = Translator(config=config)
    assert translator.config_changed() == []
    config.take_result({"modes": {"currentModeId": "plan", "availableModes": []}})
    [draft] = translator.config_changed()
    assert (draft.data["mode"], draft.data["changed"]) == ("plan", ["mode"])
    assert translator.config_changed() == []


def test_usage_commands_and_prompt_results(play):
    [draft] = play("usage_update", used=5, size=10, cost={"amount": 0.1, "currency": "USD"})
    assert draft.data == {"used": 5, "size": 10, "cost": {"amount": 0.1, "currency": "USD"}, "source": "usage_update"}
    [draft] = play("available_commands_update", availableCommands=[{"name": "plan", "description": "d"}])
    assert draft.data == {"commands": [{"name": "plan", "description": "d"}]}
    result = play.translator.prompt_result
    assert result({"usage": {"totalTokens": 3}}, b"l")[0].data == {
        "usage": {"totalTokens": 3},
        "source": "prompt_result",
    }
    quota = {"_meta": {"quota": {"token_count": {"input_tokens": 1}}}}
    assert result(quota, b"l")[0].data["usage"] == {"input_tokens": 1}
    assert result({"usage": None, "_meta": {"quota": {"token_count": None}}}, b"l") == []


# What nobody knows


def test_unknown_variants_and_notifications_are_kept_with_their_frame(play):
    [draft] = play("_vendor_thing", secret=1)
    assert (draft.type, draft.data["error"]) == ("agent.unparsed", "unknown update _vendor_thing")
    assert draft.data["raw"]["update"]["secret"] == 1
    frame = {"method": "_auth/status_update", "params": {"x": 1}}
    [draft] = play.translator.notification(frame, b"line")
    assert (draft.type, draft.data["raw"], draft.raw) == ("agent.unparsed", frame, b"line")


def test_updates_of_another_session_are_kept_apart(play):
    play.translator.session_id = "other"
    [draft] = play("agent_message_chunk", content={"type": "text", "text": "x"})
    assert draft.data["error"] == "update of another session"


def test_garbage_is_kept_whole_in_raw_and_shown_in_part():
    draft = garbage(b"\xff" + b"x" * 100_000, "not_utf8")
    assert len(draft.data["raw"]) == 64 * 1024
    assert json.loads(draft.raw) == "\ufffd" + "x" * 100_000


VARIANTS = list(Translator()._variants)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "text", "t1", "completed", "failed"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "text", "status", "x"]), inner)
    ),
    max_leaves=4,
)
TEXT = st.builds(lambda text: {"type": "text", "text": text}, st.sampled_from(["a", "b", 7]))
DATA = st.builds(lambda data: {"data": data}, st.sampled_from(["x", "xy", "", 1]))
META = st.fixed_dictionaries(
    {},
    optional={
        "terminal_output": DATA,
        "terminal_output_delta": DATA,
        "terminal_exit": st.just({"exit_code": 1}) | JUNK,
        "claudeCode": JUNK,
    },
)
TOOL_CONTENT = st.lists(
    st.builds(lambda block: {"type": "content", "content": block}, TEXT | JUNK)
    | st.just({"type": "diff", "path": "/p", "newText": "n"})
    | JUNK,
    max_size=2,
)
STATUS = st.sampled_from(["pending", "in_progress", "completed", "failed", "cancelled"])
OTHERS = (
    "kind severity summary error used size cost state name planId compactionId sessionId messageId currentModeId "
    "configOptions availableCommands entries plan locations rawInput title"
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "content": TEXT | TOOL_CONTENT | JUNK,
        "_meta": META | JUNK,
        "status": STATUS | JUNK,
        "rawOutput": TEXT | JUNK,
        **dict.fromkeys(OTHERS.split(), JUNK),
    },
)
FRAMES = st.lists(
    st.tuples(
        st.sampled_from([*VARIANTS, *["tool_call_update", "permission", "end", "cancel", "unknown"] * 2]),
        FIELDS,
        st.sampled_from(["t1", "t2", None]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(FRAMES)
def test_no_frame_whatever_it_holds_raises_gets_lost_or_leaves_an_item_open(frames):
    translator, balance = Translator(), Balance()
    for variant, fields, call_id in frames:
        known = {"toolCallId": call_id, "sessionUpdate": variant, **fields}
        if variant in ("end", "cancel"):
            balance.take(translator.end_turn(variant == "cancel"))
            assert not balance.open
            continue
        if variant == "permission":
            drafts = translator.permission({"toolCall": known}, b"line")
        else:
            drafts = translator.update({"update": known}, b"line")
        assert [draft.raw for draft in drafts] == [b"line"] + [None] * (len(drafts) - 1)
        balance.take(drafts)
    balance.take(translator.end_turn(False))
    assert not balance.open


@pytest.mark.parametrize("params", [None, [], "x", {}, {"update": None}, {"update": {"sessionUpdate": ["plan"]}}])
def test_params_of_any_shape_are_kept(params):
    [draft] = Translator().update(params, b"line")
    assert (draft.type, draft.data["raw"], draft.raw) == ("agent.unparsed", params, b"line")


def test_two_thousand_chunks_are_translated_in_a_blink():
    update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "word "}, "messageId": "m"}
    line = json.dumps({"method": "session/update", "params": {"sessionId": "s", "update": update}}).encode()
    best = min(_seconds(line) for _ in range(3))
    assert best < 0.1, "8 ms on the machine where it was measured"


def _seconds(line):
    translator = Translator()
    start = time.process_time()
    for _ in range(2000):
        translator.notification(json.loads(line), line)
    return time.process_time() - start
