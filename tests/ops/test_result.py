"""The result of a turn, folded from its events."""

from __future__ import annotations

import pytest

from agentctl import errors, events
from agentctl.events import Event
from agentctl.model import Outcome
from agentctl.ops.result import Fold, Result

EXITS = {
    "completed": 0,
    "refused": 9,
    "limit": 9,
    "cancelled": 130,
    "denied": 5,
    "failed": 7,
    "timeout": 3,
    "interrupted": 8,
}


def fold(*said: tuple[str, dict]) -> Fold:
    fold_ = Fold("trn_1")
    fold_.feed(
        Event(n, {"type": kind, "data": data, "turn_id": "trn_1"}, b"") for n, (kind, data) in enumerate(said, 1)
    )
    return fold_


def message(text: str, item_id: str = "itm_1", role: str = "assistant") -> dict:
    return {"item": events.item(item_id, "message", role=role, content=[{"type": "text", "text": text}])}


def ended(**fields) -> tuple[str, dict]:
    return "turn.ended", {"metadata": {"outcome": "completed", **fields}}


def test_every_outcome_has_its_exit_code():
    assert set(EXITS) == set(Outcome.__args__)
    for outcome, code in EXITS.items():
        assert Result(turn_id="t", outcome=outcome).exit_code == code


@pytest.mark.parametrize(
    ("error", "code"),
    [(errors.CredentialsRejected, 6), (errors.AgentExited, 7), (errors.DiskFull, 1), (errors.SandboxError, 8)],
)
def test_a_failure_exits_with_the_code_of_its_error(error, code):
    assert Result(turn_id="t", outcome="failed", error=error("x").to_json()).exit_code == code


def test_the_text_is_the_agent_s_last_message():
    said = fold(
        ("item.completed", message("hi", role="user")),
        ("item.completed", message("first")),
        ("item.completed", message("last")),
        ended(),
    )
    assert said.result().text == "last"


def test_a_message_that_was_cut_off_counts_with_what_was_seen():
    said = fold(
        ("item.started", message("")),
        ("item.delta", {"item_id": "itm_1", "delta": "half "}),
        ("item.delta", {"item_id": "itm_9", "delta": "of another"}),
        ("item.delta", {"item_id": "itm_1", "delta": "a word"}),
        ended(outcome="interrupted"),
    )
    assert said.result().text == "half a word"


def test_a_request_is_pending_until_it_is_resolved():
    said = fold(("permission.requested", {"permission_id": "req_1"}))
    assert (said.status, list(said.pending), said.result()) == ("waiting", ["req_1"], None)
    said = fold(
        ("permission.requested", {"permission_id": "req_1"}),
        ("permission.resolved", {"permission_id": "req_1"}),
        ended(),
    )
    assert (said.status, said.result().pending) == ("ended", [])


def test_events_of_other_turns_are_not_counted():
    said = Fold("trn_1")
    said.feed([Event(1, {"type": "turn.ended", "data": {"metadata": {}}, "turn_id": "trn_0"}, b"")])
    assert said.status == "queued"


def test_the_result_line_has_exactly_the_promised_keys():
    line = Result(turn_id="t", outcome="completed").to_json("ses_1", "work")
    keys = "session_id session turn_id outcome stop_reason text context usage cost duration_ms denied pending"
    assert " ".join(line) == f"type {keys} interrupted error"


def test_a_turn_in_line_has_not_begun_whatever_is_told_of_it():
    said = Fold("trn_1")
    queued = {"type": "turn.queued", "data": {"turn_id": "trn_1", "message": {}}, "turn_id": None}
    said.feed([Event(4, queued, b"")])
    assert (said.status, said.first_sequence) == ("queued", None)


def test_a_turn_taken_out_of_the_line_ends_by_what_its_end_is_about_and_not_by_what_ran_meanwhile():
    data = {"turn_id": "trn_1", "metadata": {"outcome": "cancelled"}}
    end = Event(7, {"type": "turn.ended", "data": data, "turn_id": "trn_0"}, b"")
    waiting, running = Fold("trn_1"), Fold("trn_0")
    waiting.feed([end])
    running.feed([end])
    assert waiting.result().outcome == "cancelled"
    assert running.result() is None


def test_a_silent_agent_s_turn_exits_as_a_timeout():
    error = errors.TurnStalled("silent").to_json()
    assert Result(turn_id="t", outcome="timeout", error=error).exit_code == 3
