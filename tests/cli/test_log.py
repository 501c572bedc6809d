"""The log: a line for each command, of our own words only, bounded."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from agentctl.cli import crash, entry, log
from tests.cli.running import agentctl

SECRET = "sk-canary-0123456789"


@pytest.fixture
def state():
    return Path(os.environ["AGENTCTL_STATE_DIR"])


def _lines(state):
    path = state / "logs" / "agentctl.log"
    return path.read_text().splitlines() if path.exists() else []


def test_each_command_leaves_a_line_of_our_own_words(state):
    made = agentctl("sessions", "create", SECRET, "--agent", "mock", "--no-provision", "--env", f"KEY={SECRET}")
    assert made.code == 0, made
    assert agentctl("sessions", "--json", "send", SECRET + "x", "--message", SECRET, f"--turn-id={SECRET}").code == 4
    assert agentctl("run", SECRET, "--agent", SECRET, "-m", "--json").code in (2, 4)
    first, second, third = _lines(state)
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \d+ \d\S+ "
    assert re.fullmatch(when + r"sessions create --agent --no-provision --env exit=0 ms=\d+", first)
    assert re.fullmatch(
        when + r"sessions send-message --json --message --turn-id exit=4 ms=\d+ error=session_not_found", second
    )
    assert " run --agent " in third
    assert SECRET not in "".join(_lines(state))
    assert (state / "logs" / "agentctl.log").stat().st_mode & 0o777 == 0o600
    assert (state / "logs").stat().st_mode & 0o777 == 0o700


def test_what_needs_no_state_leaves_none(tmp_path):
    elsewhere = {"AGENTCTL_STATE_DIR": str(tmp_path / "none")}
    for args in (["--version"], ["help", "env"], ["no-such-command"]):
        agentctl(*args, env=elsewhere)
    assert not (tmp_path / "none").exists()


def test_it_stays_small(state):
    path = state / "logs" / "agentctl.log"
    path.parent.mkdir()
    path.write_text("x" * 512 * 1024)
    for _ in range(3):
        assert agentctl("sessions", "list").code == 0
    assert [p.name for p in sorted(path.parent.iterdir())] == ["agentctl.log", "agentctl.log.1"]
    assert len(_lines(state)) == 2


@pytest.mark.parametrize("spoil", ["a file in place of the directory", "a link", "a directory in its place"])
def test_a_log_that_cannot_be_written_fails_nothing(state, tmp_path, spoil):
    logs = state / "logs"
    if spoil == "a file in place of the directory":
        logs.write_text("")
    else:
        logs.mkdir()
        if spoil == "a link":
            (logs / "agentctl.log").symlink_to(tmp_path / "elsewhere")
        else:
            (logs / "agentctl.log").mkdir()
    done = agentctl("sessions", "list", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert not (tmp_path / "elsewhere").exists()


def test_a_crash_names_the_traceback_and_the_log(state, monkeypatch, capsys):
    def broken(argv):
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(entry, "_invoke", broken)
    assert entry.run(["run", SECRET, "--agent", SECRET]) == 1
    err = capsys.readouterr().err
    [trace] = state.glob("logs/crash-*.log")
    assert str(trace) in err
    assert str(state / "logs" / "agentctl.log") in err
    assert SECRET not in trace.read_text()
    assert f"crash={trace.name}" in _lines(state)[-1]


def test_doctor_names_it(state):
    assert str(state / "logs" / "agentctl.log") in agentctl("doctor").out


def test_a_line_costs_less_than_two_milliseconds(state):
    agentctl("sessions", "list")
    times = []
    for _ in range(20):
        started = time.process_time()
        log.append(["sessions", "list", "--json"], 0, 0.1)
        times.append(time.process_time() - started)
    assert min(times) < 0.002
    assert crash.own_words(["--json", "sessions", "stream", "x"]) == ["sessions", "send-message-stream", "--json"]
