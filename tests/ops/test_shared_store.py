"""Two machines on one Postgres database: each is a state directory of its own here."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from agentctl.errors import SessionElsewhere, StateUnavailable
from agentctl.ops import session_end, sessions, turns
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from agentctl.store import postgres_connection
from tests.ops.conftest import furnish
from tests.ops.support import say, spec, supervisor_pid

pytestmark = pytest.mark.slow


@pytest.fixture
async def machines(postgres, tmp_path, shared_runtime):
    """Two Apps; what they made is deleted where it lies."""
    environ = {**os.environ, "AGENTCTL_DATABASE_URL": postgres.database()}
    for name in ("a", "b"):
        furnish(tmp_path / name, shared_runtime)
    with App(StatePaths(tmp_path / "a"), environ) as one, App(StatePaths(tmp_path / "b"), environ) as other:
        yield one, other
        for app in (one, other):
            for session in app.store.sessions(limit=None):
                if session.place == app.place:
                    await session_end.delete(app, session.id)


async def test_a_conversation_is_read_on_the_other_machine_and_goes_on_only_where_its_volume_is(machines, tmp_path):
    here, there = machines
    session = await sessions.create(here, spec(tmp_path), name="work")
    assert (await say(here, "work", "remember heron")).outcome == "completed"
    before = there.store.session("work")

    assert [s.status for s in await sessions.listing(there)] == ["idle"]
    assert (await sessions.details(there, "work"))["live"] is None
    said = [item["item"]["role"] for item in await turns.transcript(there, "work") if item["item"]["kind"] == "message"]
    assert said == ["user", "assistant"]

    refused = [
        lambda: say(there, "work", "hello"),
        lambda: session_end.release(there, "work"),
        lambda: session_end.delete(there, "work"),
        lambda: sessions.configure(there, "work", mode="plan"),
        lambda: turns.cancel(there, "work"),
    ]
    for call in refused:
        with pytest.raises(SessionElsewhere) as caught:
            await call()
        assert str(here.paths.root) in caught.value.message
        assert os.uname().nodename in caught.value.message
        assert caught.value.exit_code == 10
    assert there.store.session("work") == before
    assert (await say(here, "work", "go on")).context == "live"
    assert supervisor_pid(here, session)


async def test_a_session_whose_sandbox_died_is_not_called_dead_by_a_machine_that_cannot_know(machines, tmp_path):
    here, there = machines
    session = await sessions.create(here, spec(tmp_path), name="work")
    os.kill(supervisor_pid(here, session), signal.SIGKILL)
    assert [s.status for s in await sessions.listing(there)] == ["idle"]
    async with asyncio.timeout(60):
        while [s.status for s in await sessions.listing(here)] != ["dead"]:
            await asyncio.sleep(0.01)


async def test_both_machines_have_sessions_on_a_volume_of_the_same_name(machines, tmp_path):
    here, there = machines
    await sessions.create(here, spec(tmp_path), name="one")
    await sessions.create(there, spec(tmp_path), name="two")
    assert (await say(here, "one", "a")).outcome == (await say(there, "two", "b")).outcome == "completed"
    paths = {app.store.volume("unix_local", "default").handle["path"] for app in machines}
    assert paths == {str(app.paths.volumes / "default") for app in machines}
    assert len({app.origin for app in machines}) == 1


async def test_a_state_directory_that_moved_is_still_the_same_machine(machines, postgres, tmp_path):
    here, _ = machines
    await sessions.create(here, spec(tmp_path), name="work")
    await session_end.release(here, "work")
    moved = StatePaths(tmp_path / "moved")
    moved.root.symlink_to(here.paths.root)  # as a mount of it on another machine would
    with App(moved, here.environ) as app:
        assert (await say(app, "work", "hello")).context == "restored"
        await session_end.release(app, "work")


async def test_a_server_that_restarts_in_a_turn_costs_nothing(machines, postgres, tmp_path):
    here, _ = machines
    await sessions.create(here, spec(tmp_path), name="work")
    seen = 0
    message = turns.Message(text="@chunks=40 @delay=0.02")
    async with asyncio.timeout(60), turns.open_turn(here, "work", message) as turn:
        async for batch in turn:
            seen += len(batch)
            if seen > 10:
                await asyncio.to_thread(postgres.restart, signal.SIGQUIT)
                seen = -1000
    assert turn.result.outcome == "completed"
    numbers = [number for number, _ in here.store.events(here.store.session("work").id)]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_server_that_is_gone_in_a_turn_is_said_and_the_turn_goes_on(machines, postgres, tmp_path, monkeypatch):
    monkeypatch.setattr(postgres_connection, "RECONNECT_S", 0.1)
    here, _ = machines
    await sessions.create(here, spec(tmp_path), name="work")
    message = turns.Message(text="@chunks=20 @delay=0.02", turn_id="trn_kept")
    try:
        with pytest.raises(StateUnavailable):
            await _without_server(here, message, postgres)
    finally:
        postgres.start()
    monkeypatch.undo()
    result = await say(here, "work", "@chunks=20 @delay=0.02", turn_id="trn_kept")
    assert result.outcome == "completed"
    assert len(here.store.turns(here.store.session("work").id)) == 1


async def _without_server(app, message, postgres):
    async with asyncio.timeout(60), turns.open_turn(app, "work", message) as turn:
        async for _ in turn:
            postgres.stop()
