"""Long output on a terminal goes through a pager, and only there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from agentctl.cli.pager import command_line
from agentctl.model import Session, SessionSpec
from agentctl.store.sqlite import SqliteStore
from tests.cli.running import agentctl

ROWS = {"rows": 12, "columns": 130}


@pytest.fixture
def pager(tmp_path, monkeypatch):
    """A pager that leaves a trace, and shows all: its command line."""
    script = tmp_path / "pager"
    script.write_text('#!/bin/sh\necho "$0 $@" >> "$(dirname "$0")/called"\nexec cat\n')
    script.chmod(0o755)
    monkeypatch.setenv("AGENTCTL_PAGER", f"{script} --mine")
    monkeypatch.setenv("PAGER", f"{script} --common")
    return script


def _calls(pager):
    trace = pager.parent / "called"
    return trace.read_text().splitlines() if trace.exists() else []


@pytest.fixture
def long_session():
    """The name of a session with thousands of events."""

    def line(n):
        body = {"sequence": n, "time": "2026-01-01T00:00:00.000Z", "type": "turn.stalled", "data": {"n": n}}
        return json.dumps(body).encode()

    with SqliteStore(Path(os.environ["AGENTCTL_STATE_DIR"]) / "agentctl.db") as store:
        session = Session(
            id="ses_long", name="long", spec=SessionSpec(agent="mock"), status="idle", created_at=1, updated_at=1
        )
        store.add_session(session)
        store.add_events(session.id, [(n, line(n)) for n in range(1, 5001)])
    return "long"


def test_less_shows_a_page_and_leaving_it_is_no_error(terminal, monkeypatch):
    assert shutil.which("less"), "CI has less"
    monkeypatch.setenv("AGENTCTL_PAGER", "less -FRX")
    shown = terminal("help", "exit-codes", **ROWS)
    shown.wait_for("usage: nothing was changed")
    shown.wait_for(":")
    assert "SIGTERM" not in shown.text
    shown.send("q")
    assert shown.finish() == 0
    assert "rror" not in shown.lines[-1]


def test_leaving_early_ends_the_command_quietly(terminal, long_session, monkeypatch):
    monkeypatch.setenv("AGENTCTL_PAGER", "head -n 2")
    shown = terminal("sessions", "events", long_session, **ROWS)
    assert shown.finish() == 0
    assert [line.split()[0] for line in shown.lines if line] == ["1", "2"]


def test_the_pager_is_ours_then_everybodys_and_none_where_it_is_empty(terminal, pager, monkeypatch):
    def run(*args):
        shown = terminal("help", "env", *args, **ROWS)
        assert shown.finish() == 0
        assert "AGENTCTL_STATE_DIR" in shown.text
        calls = _calls(pager)
        (pager.parent / "called").unlink(missing_ok=True)
        return [call.split()[-1] for call in calls]

    assert run() == ["--mine"]
    assert run("--no-pager") == []
    monkeypatch.setenv("AGENTCTL_PAGER", "")
    assert run() == []
    monkeypatch.setenv("AGENTCTL_PAGER", "no-such-pager")
    assert run() == []


def test_which_pager_it_is(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("PAGER", raising=False)
    assert command_line() == ["less", "-FRX"]
    monkeypatch.setenv("PAGER", "more -s")
    assert command_line() == ["more", "-s"]
    for none in ("", "cat", "'"):
        monkeypatch.setenv("AGENTCTL_PAGER", none)
        assert command_line() is None
    monkeypatch.setenv("AGENTCTL_PAGER", "most")
    assert command_line() == ["most"]
    monkeypatch.setenv("TERM", "dumb")
    assert command_line() is None


def test_what_fits_the_screen_is_not_paged(terminal, pager):
    shown = terminal("help", "permissions", rows=60, columns=130)
    assert shown.finish() == 0
    assert "accept-edits" in shown.text
    assert _calls(pager) == []


def test_a_pipe_gets_everything_at_once(pager, long_session):
    done = agentctl("sessions", "events", long_session)
    assert done.code == 0
    assert len(done.out.splitlines()) == 5000
    assert _calls(pager) == []


def test_what_is_followed_is_not_paged(terminal, pager, long_session):
    shown = terminal("sessions", "events", long_session, "--follow", "--offset", "4900", **ROWS)
    shown.wait_for("  5000  ")
    shown.send("\x03")
    assert shown.finish() == 130
    assert _calls(pager) == []


@pytest.mark.parametrize("args", [("--json",), ("-q",)])
def test_what_scripts_read_is_not_paged(terminal, pager, long_session, args):
    shown = terminal("sessions", "events", long_session, "--offset", "4950", *args, **ROWS)
    assert shown.finish() == 0
    assert _calls(pager) == []
