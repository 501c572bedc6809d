"""``--stall-timeout``, ``--start-timeout`` and ``--idle-timeout``, as they are given and as they act."""

import json

import pytest

from tests.cli.running import agentctl

SILENT = "sh -c 'cat > /dev/null'"
"""An agent that never answers, and ends when it is left."""
LIMITS = ("stall_timeout_s", "start_timeout_s", "idle_timeout_s")


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ((), (1800, None, 180)),
        (("--stall-timeout", "5m", "--start-timeout", "90", "--idle-timeout", "1h"), (300, 90, 3600)),
        (("--stall-timeout", "0", "--idle-timeout", "0s"), (None, None, None)),
    ],
)
def test_they_are_part_of_what_a_session_is(rows, given, limits):
    done = agentctl("sessions", "create", "work", "--agent", "mock", "--no-provision", *given)
    assert done.code == 0, done
    [(spec,)] = rows("select spec from sessions")
    assert tuple(json.loads(spec)[name] for name in LIMITS) == limits


@pytest.mark.parametrize("option", ["--stall-timeout", "--start-timeout", "--idle-timeout"])
def test_what_is_no_time_is_refused(option):
    done = agentctl("sessions", "create", "work", "--agent", "mock", option, "soon")
    assert done.code == 2
    assert "'soon' is not a time" in done.err


def test_a_start_that_may_take_no_time_at_all_is_refused():
    assert agentctl("sessions", "create", "work", "--agent", "mock", "--start-timeout", "0").code == 2


@pytest.mark.slow
def test_an_agent_that_falls_silent_is_exit_3_and_it_is_said():
    done = agentctl("run", "--agent", "mock", "@hang", "--stall-timeout", "0.5s", "--json")
    result = done.events[-1]
    assert (done.code, result["outcome"], result["error"]["code"]) == (3, "timeout", "stalled")
    assert "turn.stalled" in [event["type"] for event in done.events]
    words = agentctl("run", "--agent", "mock", "@hang", "--stall-timeout", "0.5s")
    assert words.code == 3
    assert "Stopped: the agent had fallen silent" in words.err


@pytest.mark.slow
def test_one_message_may_have_its_own_patience(session):
    sessions_own = agentctl("sessions", "send", session, "@sleep=1 @say=slow", "--stall-timeout", "0.3s", "--json")
    assert sessions_own.data["error"]["code"] == "stalled"
    never = agentctl("sessions", "send", session, "@sleep=1 @say=slow", "--stall-timeout", "0")
    assert (never.code, never.out) == (0, "slow\n")


@pytest.mark.slow
def test_an_agent_that_does_not_start_in_time_is_exit_3():
    done = agentctl("run", "--agent-command", SILENT, "--start-timeout", "0.5s", "hello")
    assert done.code == 3, done
