"""``agentctl sessions wait`` and ``resume``: what is so already, what comes, what never will."""

import os
import signal
import subprocess
import sys

import pytest

from tests.cli.running import agentctl
from tests.cli.watching import Watched, kill_supervisor, supervisor_pid


def sessions(*args, **how):
    return agentctl("sessions", *args, **how)


def waiting(*args):
    """A ``sessions wait`` that goes on beside the test."""
    argv = [sys.executable, "-m", "agentctl.cli", "sessions", "wait", *args]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_what_is_so_already_is_exit_0_at_once(session):
    assert sessions("wait", session).out == "work\n"
    sessions("send", session, "hello", "--turn-id", "mine")
    assert sessions("wait", session).out == "work\n"
    assert sessions("wait", session, "--for", "turn-ended").out == "completed\n"
    data = sessions("wait", session, "--for", "turn-ended", "--turn", "mine", "--json").data
    assert (data["for"], data["turn_id"], data["outcome"]) == ("turn-ended", "mine", "completed")
    assert sessions("wait", session, "--for", "turn-ended", "-q").out == "mine\n"


def test_it_is_woken_by_the_end_of_the_turn(session):
    sessions("send", session, "@hang", "--no-wait", "--turn-id", "mine")
    idle, end = waiting(session), waiting(session, "--for", "turn-ended", "--json")
    sessions("cancel", session)
    assert ended(idle)[:2] == (0, "work\n")
    code, out, _ = ended(end)
    assert code == 0
    assert '"outcome": "cancelled"' in out


def test_idle_means_that_nobody_waits_in_line_either(session):
    sessions("send", session, "@hang", "--no-wait", "--turn-id", "one")
    sessions("send", session, "@hang", "--no-wait", "--queue", "--turn-id", "two")
    idle, second = waiting(session), waiting(session, "--for", "turn-ended", "--turn", "two")
    sessions("cancel", session, "--turn", "one")
    assert sessions("wait", session, "--for", "turn-ended", "--turn", "one").out == "cancelled\n"
    assert idle.poll() is None
    assert second.poll() is None
    sessions("cancel", session, "--turn", "two")
    assert ended(idle)[0] == 0
    assert ended(second)[:2] == (0, "cancelled\n")


def test_a_request_is_waited_for_and_named(session):
    sessions("send", session, "hello")
    waiter = waiting(session, "--for", "request")
    sessions("send", session, "@permission", "--no-wait")
    code, out, _ = ended(waiter)
    assert code == 0
    assert out == sessions("requests", session, "-q").out != ""
    assert sessions("wait", session, "--for", "request").out == out


def test_a_timeout_is_exit_3(session):
    sessions("send", session, "@hang", "--no-wait")
    for what in ("idle", "turn-ended", "request"):
        done = sessions("wait", session, "--for", what, "--timeout", "0.3s", "--json")
        assert (done.code, done.envelope["error"]["code"]) == (3, "timeout")


@pytest.mark.slow
def test_a_session_that_dies_meanwhile_is_told_as_an_interrupted_turn(session, effects):
    sessions("send", session, effects.message(), "--no-wait", "--turn-id", "mine")
    effects.wait_begun()
    waiters = [waiting(session, "--for", what, "--json") for what in ("idle", "turn-ended")]
    with Watched("sessions", "events", session, "--follow") as reader:  # the waiters have had the time that this takes
        reader.until("turn.started")
    kill_supervisor()
    for waiter in waiters:
        code, out, _ = ended(waiter)
        assert code == 8
        assert '"outcome": "interrupted"' in out
        assert "sessions resume work" in out


@pytest.mark.slow
def test_a_session_found_dead_never_hangs(session, effects):
    sessions("send", session, effects.message(), "--no-wait", "--turn-id", "mine")
    effects.wait_begun()
    kill_supervisor()
    for what in ("idle", "turn-ended", "request"):
        done = sessions("wait", session, "--for", what)
        assert done.code == 8, done
    assert sessions("wait", session, "--for", "turn-ended").out == "interrupted\n"
    sessions("resume", session)
    assert sessions("wait", session).code == 0
    assert sessions("wait", session, "--for", "turn-ended").code == 8


def test_a_released_session_is_idle_and_asks_nothing(session):
    sessions("send", session, "hello")
    sessions("release", session)
    assert sessions("wait", session).code == 0
    assert sessions("wait", session, "--for", "turn-ended").out == "completed\n"
    assert sessions("wait", session, "--for", "request").code == 8


@pytest.mark.slow
def test_a_supervisor_that_leaves_in_good_order_ends_the_wait(session):
    sessions("send", session, "hello")
    waiter = waiting(session, "--for", "request")
    with Watched("sessions", "events", session, "--follow") as reader:
        reader.until("turn.ended")
    os.kill(supervisor_pid(), signal.SIGTERM)
    assert ended(waiter)[0] == 8


def test_a_turn_that_is_not_known_is_exit_4(session):
    assert sessions("wait", session, "--for", "turn-ended").code == 4
    sessions("send", session, "hello")
    assert sessions("wait", session, "--for", "turn-ended", "--turn", "nobody").code == 4
    assert sessions("wait", session, "--turn", "nobody").code == 2


def test_ctrl_c_ends_the_wait_and_leaves_the_turn(terminal, session):
    sessions("send", session, "@hang", "--no-wait", "--turn-id", "mine")
    screen = terminal("sessions", "wait", session)
    screen.read(0.5)
    screen.send("\x03")
    assert screen.finish() == 130
    assert sessions("get", session, "--json").data["live"]["turnId"] == "mine"


def test_resume_brings_the_session_up_before_its_message(session):
    done = sessions("resume", session)
    assert (done.code, done.out) == (0, "work\n")
    assert "Starting mock" in done.err
    assert sessions("get", session, "--json").data["live"]["status"] == "idle"
    again = sessions("resume", session)
    assert (again.code, again.out, again.err) == (0, "work\n", "")
