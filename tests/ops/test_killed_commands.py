"""Commands killed while they start a session: whatever they leave is found, and one agent at a time has the session."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys

import pytest

from agentctl.ops import mirror, provision, session_end, sessions
from agentctl.ops import sandboxes as own_sandboxes
from agentctl.supervisor.log.session_log import LogReader
from tests.ops.support import say, spec, supervisor_pid

BRING_UP = """
import asyncio, os, signal, sys
from agentctl.ops import provision, session_end, sessions
from agentctl.ops.app import App

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "before it is stored":
    provision._record = die
with App.open() as app:
    app.provider("unix_local")
    print("ready", flush=True)
    asyncio.run(sessions.resume(app, sys.argv[1]))
"""


def bring_up(session, moment=""):
    """A command that does it, when it has begun to."""
    argv = [sys.executable, "-c", BRING_UP, session.id, moment]
    process = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE)
    with process.stdout as said:
        assert said.readline() == b"ready\n"
    return process


async def sandboxes(app, session):
    found = [f async for f in app.provider("unix_local").find_by_labels({"session": session.id})]
    return [f for f in found if (await app.provider("unix_local").inspect(f.handle)).status == "running"]


def agents(session):
    """The processes of this session's agents, whoever started them: their HOME is in the session's directory."""
    about = {pid: _read(pid, "environ") for pid in os.listdir("/proc") if pid.isdecimal()}
    homes = [pid for pid, environ in about.items() if b"HOME=" in environ and session.id.encode() in environ]
    return [pid for pid in homes if b"mock-agent" in _read(pid, "cmdline")]


def _read(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


async def test_a_sandbox_whose_maker_died_before_it_could_be_stored_is_found_and_replaced(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    assert bring_up(session, "before it is stored").wait(60) == -signal.SIGKILL
    (orphan,) = await sandboxes(app, session)
    assert app.store.sandboxes() == []
    assert (await say(app, session.id, "hello")).outcome == "completed"
    (now,) = await sandboxes(app, session)
    assert now.sandbox_id != orphan.sandbox_id
    assert len(agents(session)) == 1


@pytest.mark.parametrize("command", ["release", "delete"])
async def test_what_a_killed_command_left_is_ended_with_the_session(app, tmp_path, command):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    bring_up(session, "before it is stored").wait(60)
    await getattr(session_end, command)(app, session.id)
    assert await sandboxes(app, session) == []


async def test_a_session_that_nobody_starts_any_more_is_not_starting(app, tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "STARTING_S", 0)
    session = await sessions.create(app, spec(tmp_path), provision=False)
    bring_up(session, "before it is stored").wait(60)
    assert [s.status for s in await sessions.listing(app)] == ["starting"]
    for found in await sandboxes(app, session):
        os.kill(found.handle["pid"], signal.SIGKILL)
        await app.provider("unix_local").remove(found.handle)
    assert [s.status for s in await sessions.listing(app)] == ["dead"]


async def test_the_first_start_of_a_session_or_a_sandbox_searches_for_nothing(app, tmp_path, monkeypatch):
    def searched(*args):
        raise AssertionError("a search")

    monkeypatch.setattr(provision, "unrecorded", searched)
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "hello")
    await session_end.release(app, session.id)
    await say(app, session.id, "hello")
    made = await own_sandboxes.create(app, spec(tmp_path), name="box")
    assert made.sandbox.status == "running"
    await own_sandboxes.delete(app, "box")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_a_command_killed_at_any_moment_of_the_start_leaves_one_session_with_one_agent(app, tmp_path, seed):
    moments = random.Random(seed)
    session = await sessions.create(app, spec(tmp_path), provision=False)
    for _ in range(7):
        process = bring_up(session)
        await asyncio.sleep(moments.uniform(0, 0.45))
        process.kill()
        process.wait(60)
        assert len(await sandboxes(app, session)) <= 1
    result = await say(app, session.id, "the codeword is heron")
    assert (result.outcome, len(await sandboxes(app, session)), len(agents(session))) == ("completed", 1, 1)
    os.kill(supervisor_pid(app, session), signal.SIGKILL)
    assert "heron" in (await say(app, session.id, "@recall")).text
    log = LogReader(app.paths.volumes / "default" / mirror.log_path(session.id))
    numbers, after = [], 0
    while page := log.read(after):
        numbers += [record.sequence for record in page]
        after = numbers[-1]
    assert numbers == list(range(1, len(numbers) + 1))
