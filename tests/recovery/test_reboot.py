"""The machine went down at the worst moment and is up again: the next message goes on, or says why it cannot."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time

import pytest

from agentctl.ops import session_end, sessions, turns
from agentctl.ops.app import App
from agentctl.ops.reach import LEASE_S
from agentctl.paths import StatePaths
from tests.cli.running import agentctl
from tests.recovery.leftovers import leftovers, process_ids
from tests.recovery.reboot import reboot
from tests.recovery.stage import Stage, alone, context_matters

PROVIDERS = ("unix_local",)
"""Where sandboxes go down with this machine, and its process ids begin anew."""


@context_matters
async def test_the_conversation_goes_on_after_a_reboot_in_mid_turn(stage: Stage) -> None:
    session, before = await stage.first_turn("the codeword is heron")
    await turns.submit(stage.app, "work", turns.Message(text=stage.talk.last(20), turn_id="cut-off"))
    async with asyncio.timeout(60):
        while not [e async for page in turns.events(stage.app, "work") for e in page if e.turn_id == "cut-off"][2:]:
            await asyncio.sleep(0.02)
    reboot(stage.app.paths)
    [listed] = await sessions.listing(stage.app)
    assert listed.status == "dead"
    with App.open() as rebooted:
        await stage.goes_on(session, app=rebooted)
        assert (await stage.say(stage.talk.last(20), turn_id="cut-off", app=rebooted)).outcome == "interrupted"
    stage.has_the_sandbox(before, again=False)


async def test_the_conversation_goes_on_after_a_reboot_in_its_sleep(stage: Stage) -> None:
    session, _ = await stage.first_turn("the codeword is heron")
    await session_end.release(stage.app, "work")
    reboot(stage.app.paths)
    await stage.goes_on(session)


async def test_a_process_that_has_the_old_pid_by_now_is_left_alone(stage: Stage) -> None:
    session, _ = await stage.first_turn("the codeword is heron")
    with subprocess.Popen(["sleep", "60"], env={}) as stranger:
        try:
            reboot(stage.app.paths)
            database = sqlite3.connect(stage.app.paths.database)
            with database:
                database.execute("UPDATE sandboxes SET handle = json_set(handle, '$.pid', ?)", (stranger.pid,))
            database.close()
            await stage.goes_on(session)
            assert stranger.poll() is None
        finally:
            stranger.kill()


@alone
async def test_an_agent_that_forgot_everything_in_the_reboot_is_said(stage: Stage) -> None:
    """HOME was on a disk that does not survive."""
    session, _ = await stage.first_turn("the codeword is heron")
    reboot(stage.app.paths)
    home = stage.plug.marker(session).parent
    for path in home.rglob("*.jsonl"):
        path.unlink()
    done = agentctl("sessions", "send", "work", "hello", "--json")
    assert done.code == 11
    assert done.envelope["error"]["code"] == "context_lost"
    assert "--on-lost" in done.envelope["error"]["hint"]
    done = agentctl("sessions", "send", "work", "@echo", "--on-lost", "replay", "--json")
    assert (done.code, done.data["context"]) == (0, "replayed")
    assert "heron" in done.data["text"]


@pytest.mark.slow
def test_a_reboot_while_a_session_came_up_blocks_nobody(paths: StatePaths, tmp_path) -> None:
    """The command that held the lease is of an earlier boot: its lease is not waited for."""
    from agentctl.supervisor.mock import agent as mock_agent

    slow = f"{sys.executable} -IS {mock_agent.__file__}"
    made = agentctl("sessions", "create", "work", "--agent-command", slow, "--no-provision", cwd=tmp_path)
    assert made.code == 0, made
    delayed = {**os.environ, "MOCK_AGENT_FLAGS": "--init-delay=30"}
    argv = [sys.executable, "-m", "agentctl.cli", "sessions", "send", "work", "hello", "--turn-id", "mine"]
    with subprocess.Popen(argv, env=delayed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path):
        deadline = time.monotonic() + 60
        while not list(paths.run.glob("*/labels.json")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        reboot(paths)
    assert process_ids(paths) == []
    started = time.monotonic()
    done = agentctl("sessions", "send", "work", "hello", "--turn-id", "mine", "--json", cwd=tmp_path)
    assert done.data["outcome"] == "completed", done
    assert time.monotonic() - started < LEASE_S / 2
    assert agentctl("sessions", "delete", "work", "--yes").code == 0
    assert leftovers(paths) == []
