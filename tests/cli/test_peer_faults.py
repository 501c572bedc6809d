"""What was measured to go wrong in a command line of the same kind, and must not here, where no other test holds it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from agentctl.supervisor.processes import marked
from tests.cli.running import agentctl, until
from tests.cli.watching import kill_supervisor

pytestmark = pytest.mark.slow


def started(*args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "agentctl.cli", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_command_ends_when_its_turn_does(session):
    """1.02 s passed there between the answer and the end of the process."""
    assert agentctl("sessions", "send", session, "warm").code == 0
    tails = []
    while not tails or (min(tails) >= 0.2 and len(tails) < 10):  # the machine may have other things to do
        child = started("sessions", "stream", session, "Hello", "--json")
        lines = iter(child.stdout.readline, b"")
        assert any(json.loads(line)["type"] == "result" for line in lines)
        told = time.monotonic()
        assert child.wait(timeout=60) == 0
        tails.append(time.monotonic() - told)
        child.communicate()
    assert min(tails) < 0.2  # python -m tests.bench measures it: some 10 ms


def test_a_deadline_holds_in_line_and_names_its_session_and_the_next_message_comes_through(session):
    """A timeout of 2 s ended after 3.4 s, of a session "unknown"."""
    assert agentctl("sessions", "send", session, "@hang", "--no-wait").code == 0
    watched = ("sessions", "send", session, "never", "--queue", "--timeout", "1s")
    done = agentctl(*watched, "--json")
    assert (done.code, done.data["outcome"], done.data["session"]) == (3, "timeout", session), done
    assert done.envelope["error"]["code"] == "timeout"
    assert "in line" in done.envelope["error"]["message"]
    said = agentctl(*watched)
    assert (said.code, "--no-wait" in said.err) == (3, True), said
    kept = agentctl("sessions", "send", session, "later", "--queue", "--no-wait", "--timeout", "1s", "-q").out.strip()
    assert [turn["text"] for turn in agentctl("sessions", "get", session, "--json").data["live"]["queue"]] == ["later"]
    assert agentctl("sessions", "cancel", session).code == 0
    assert agentctl("sessions", "send", session, "later", "--turn-id", kept, "-q").out == "mock: later\n"


def test_an_agent_that_ignores_a_cancel_is_killed_and_it_is_said(session):
    """Exit 1 after 3.1 s, without a word."""
    child = started("sessions", "stream", session, "@ignore-cancel @say=go @sleep=60")
    assert os.read(child.stdout.fileno(), 100) == b"go"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert b"Cancelling the turn" in err
    assert b"Cancelled" in err
    assert agentctl("sessions", "send", session, "again", "-q").out == "mock: again\n"


def test_nothing_outlives_the_sandbox_of_a_killed_command_whatever_its_agent_ignores():
    """The agent and its grandchild lived on."""
    idle = ("--session", "left", "--idle-timeout", "1s")
    child = started("run", "--agent", "mock", *idle, "@grandchild=100 @ignore-eof @ignore-term @sleep=0.5")
    assert os.read(child.stdout.fileno(), 100).startswith(b"grandchild: ")
    child.kill()
    child.communicate()
    sandbox = agentctl("sessions", "get", "left", "--json").data["sandbox_id"]
    assert marked(sandbox)
    until(lambda: not marked(sandbox))


def test_the_list_tells_who_waits_and_who_died(session):
    """Idle, busy or gone, it was "running"."""

    def status() -> str:
        [row] = agentctl("sessions", "list", "--json").data
        return row["status"]

    assert agentctl("sessions", "send", session, "@permission", "--no-wait").code == 0
    assert agentctl("sessions", "wait", session, "--for", "request").code == 0
    assert status() == "waiting"
    kill_supervisor()
    assert status() == "dead"
