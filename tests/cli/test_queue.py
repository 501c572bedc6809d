"""Messages that wait in line: queued, put before others, taken out, watched, and kept through a death."""

import asyncio

import pytest

from agentctl import errors
from agentctl.ops import turns
from agentctl.ops.app import App
from tests.cli.running import agentctl
from tests.cli.watching import Watched, kill_supervisor


@pytest.fixture
def busy(session):
    """A session with a running turn, ``first``, that lasts until it is cancelled."""
    done = sessions("send", session, "@hang", "--no-wait", "--turn-id", "first")
    assert done.code == 0, done
    return session


def sessions(*args, **how):
    return agentctl("sessions", *args, **how)


def test_two_messages_in_line_run_in_order_and_each_watcher_sees_its_own_turn(busy):
    with Watched("sessions", "stream", busy, "@say=two", "--queue", "--turn-id", "second") as second:
        assert second.until("turn.queued")["data"]["turn_id"] == "second"
        with Watched("sessions", "stream", busy, "@say=three", "--queue", "--turn-id", "third") as third:
            assert third.until("turn.queued")["data"]["turn_id"] == "third"
            assert sessions("cancel", busy, "--turn", "first").out == "first\n"
            assert [second.finish()["text"], third.finish()["text"]] == ["two", "three"]
    for watched, turn in ((second, "second"), (third, "third")):
        assert watched.types(turn) == ["turn.queued", "turn.started", "turn.ended"]
        assert {line.get("turn_id") for line in watched.lines} <= {turn, None}
    ends = [line["sequence"] for w in (second, third) for line in w.lines if line["type"] == "turn.ended"]
    assert ends == sorted(ends)


def test_a_busy_session_without_queue_is_exit_10_and_says_what_could_be_done(busy):
    done = sessions("send", busy, "x")
    assert done.code == 10
    assert "--queue" in done.err
    assert "--interrupt" in done.err


def test_interrupt_ends_the_running_turn_and_goes_before_those_in_line(busy):
    queued = sessions("send", busy, "@say=later", "--no-wait", "--queue", "--turn-id", "later", "--json").data
    assert (queued["status"], queued["position"]) == ("queued", 1)
    done = sessions("send", busy, "@say=now", "--interrupt", "--json")
    assert (done.code, done.data["text"]) == (0, "now")
    assert sessions("wait", busy, "--timeout", "20s").code == 0
    log = sessions("events", busy, "--json").events
    ends = [(e["data"]["turn_id"], e["data"]["metadata"]["outcome"]) for e in log if e["type"] == "turn.ended"]
    assert ends == [("first", "cancelled"), (done.data["turn_id"], "completed"), ("later", "completed")]


def test_interrupt_in_an_idle_session_just_sends(session):
    assert sessions("send", session, "@say=now", "--interrupt").out == "now\n"


def test_no_wait_prints_the_id_of_the_queued_turn(busy):
    done = sessions("send", busy, "x", "--no-wait", "--queue", "--turn-id", "mine")
    assert (done.code, done.out) == (0, "mine\n")
    assert "number 1 in line" in done.err
    sessions("cancel", busy)


def test_list_and_get_show_who_waits_in_line(busy):
    sessions("send", busy, "clean up\nand tell", "--no-wait", "--queue", "--turn-id", "mine")
    assert sessions("list").out.splitlines()[1].split("\t")[2] == "busy, 1 in line"
    assert sessions("list", "--json").data[0]["queued"] == 1
    assert "mine  clean up and tell" in sessions("get", busy).out
    assert sessions("get", busy, "--json").data["queue"] == [{"turn_id": "mine", "text": "clean up\nand tell"}]
    sessions("cancel", busy, "--turn", "mine")
    assert sessions("list").out.splitlines()[1].split("\t")[2] == "busy"


def test_a_turn_in_line_is_taken_out_and_its_watcher_is_told(busy):
    with Watched("sessions", "stream", busy, "x", "--queue", "--turn-id", "mine") as watched:
        watched.until("turn.queued")
        assert sessions("cancel", busy, "--turn", "mine", "--json").data == {"turn_id": "mine", "cancelled": True}
        assert watched.finish()["outcome"] == "cancelled"
    assert watched.code == 130
    assert sessions("get", busy, "--json").data["live"]["turnId"] == "first"


def test_cancelling_a_turn_that_nobody_knows_is_exit_4(busy):
    assert sessions("cancel", busy, "--turn", "nobody").code == 4


def test_ctrl_c_takes_the_message_out_of_the_line_and_leaves_the_running_turn_alone(terminal, busy):
    screen = terminal("sessions", "stream", busy, "x", "--queue", "--turn-id", "mine")
    screen.wait_for("Waiting for the running turn")
    screen.send("\x03")
    assert screen.finish() == 130
    live = sessions("get", busy, "--json").data["live"]
    assert (live["turnId"], live["queue"]) == ("first", [])


def test_the_same_turn_id_in_line_twice_runs_once(busy):
    for _ in range(2):
        assert sessions("send", busy, "@say=x", "--no-wait", "--queue", "--turn-id", "mine").out == "mine\n"
    sessions("cancel", busy)
    sessions("wait", busy, "--timeout", "20s")
    log = sessions("events", busy, "--json").events
    assert [e["data"]["turn_id"] for e in log if e["type"] == "turn.started"] == ["first", "mine"]


@pytest.mark.slow
def test_a_full_queue_is_exit_10(busy):
    async def fill():
        with App.open() as app:
            for number in range(200):
                await turns.submit(app, busy, turns.Message(text="x", turn_id=f"t{number}", when_busy="queue"))

    with pytest.raises(errors.QueueFull):
        asyncio.run(fill())
    done = sessions("send", busy, "x", "--queue", "--json")
    assert (done.code, done.envelope["error"]["code"]) == (10, "queue_full")
    sessions("delete", busy, "--yes")


@pytest.mark.slow
def test_what_was_in_line_when_the_supervisor_died_runs_once_under_its_watcher(session, effects):
    """The running turn's own watcher gives up; that of the one in line brings the session back for it."""
    with Watched("sessions", "stream", session, effects.message(), "--turn-id", "first") as first:
        effects.wait_begun()
        with Watched("sessions", "stream", session, "@say=after", "--queue", "--turn-id", "second") as second:
            second.until("turn.queued")
            kill_supervisor()
            assert first.finish()["outcome"] == "interrupted"
            result = second.finish()
    assert (second.code, result["text"], result["interrupted"]) == (0, "after", []), second.err
    assert second.types("second") == ["turn.queued", "turn.started", "turn.ended"]
    assert effects.count == 1


def test_queue_and_interrupt_exclude_each_other(session):
    assert sessions("send", session, "x", "--queue", "--interrupt").code == 2
    assert agentctl("run", "--agent", "mock", "--queue", "x").code == 2
