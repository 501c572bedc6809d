"""Two terminals, a cron job and a CI job at once: on one state directory, on one session."""

from __future__ import annotations

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentctl.ops import mirror, session_end, sessions
from agentctl.ops.app import App
from agentctl.supervisor.log.session_log import LogReader
from tests.cli import forking
from tests.ops.support import spec

COMMANDS = 8


@pytest.fixture
def agentctl():
    """Run one command to its end: exit code, stdout, stderr."""
    with ThreadPoolExecutor(COMMANDS) as callers:

        async def run(*args):
            how = (None, dict(os.environ), os.getcwd(), 90)
            return await asyncio.get_running_loop().run_in_executor(callers, forking.run, args, *how)

        yield run


def whole(log):
    """The numbers and types of all events of a log."""
    found, after = [], 0
    while page := log.read(after):
        found += [(record.sequence, json.loads(record.line)["type"]) for record in page]
        after = page[-1].sequence
    return found


@pytest.mark.slow
async def test_many_commands_at_once_on_a_new_state_directory_all_succeed(agentctl, tmp_path, monkeypatch):
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(tmp_path / "new"))
    done = await asyncio.gather(*(agentctl("run", "--agent", "mock", "--keep", f"hello {n}") for n in range(COMMANDS)))
    assert [(code, out) for code, out, _ in done] == [(0, f"mock: hello {n}\n") for n in range(COMMANDS)]
    said = "".join(err for _, _, err in done)
    assert "locked" not in said
    assert "asynchronous generator" not in said
    with App.open() as app:
        made = app.store.sessions(limit=None)
        assert len(made) == COMMANDS
        await asyncio.gather(*(session_end.delete(app, session.id) for session in made))


@pytest.mark.slow
async def test_many_commands_at_once_on_one_session_share_one_sandbox_and_one_log(app, agentctl, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    done = await asyncio.gather(*(agentctl("run", "--session", session.name, f"hello {n}") for n in range(COMMANDS)))
    codes = [code for code, _, _ in done]
    assert set(codes) <= {0, 10}, done
    assert 0 in codes
    assert "locked" not in "".join(err for _, _, err in done)
    assert len([f async for f in app.provider("unix_local").find_by_labels({"session": session.id})]) == 1
    events = whole(LogReader(app.paths.volumes / "default" / mirror.log_path(session.id)))
    assert [number for number, _ in events] == list(range(1, len(events) + 1))
    kinds = [kind for _, kind in events]
    assert (kinds.count("session.started"), kinds.count("turn.ended")) == (1, codes.count(0))
    await mirror.from_volume(app, app.store.session(session.id))
    assert [number for number, _ in app.store.events(session.id)] == [number for number, _ in events]


@pytest.mark.slow
async def test_starting_releasing_and_sending_at_once_ends_every_command_in_a_defined_way(app, agentctl, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    commands = [
        *(("run", "--session", session.name, "hello") for _ in range(3)),
        *(("sessions", verb, session.name) for verb in ("release", "get", "release", "events", "get")),
    ]
    done = await asyncio.gather(*(agentctl(*command) for command in commands))
    assert {code for code, _, _ in done} <= {0, 8, 10}, done
    assert "locked" not in "".join(err for _, _, err in done)
    assert "Traceback" not in "".join(err for _, _, err in done)
    assert len([f async for f in app.provider("unix_local").find_by_labels({"session": session.id})]) <= 1
    code, out, err = await agentctl("run", "--session", session.name, "and now")
    assert (code, out) == (0, "mock: and now\n"), err
