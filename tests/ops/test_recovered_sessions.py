"""What a session keeps over the loss of its supervisor: place, settings, queue, times; and how fast it is back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time

import pytest

from agentctl import errors
from agentctl.events import Event
from agentctl.ops import launch, mirror, provision, session_end, sessions
from agentctl.wire import Boot
from tests.ops.support import say, spec, supervisor_pid


def kill(app, session):
    os.kill(supervisor_pid(app, session), signal.SIGKILL)


async def test_resuming_brings_the_agent_up_and_sends_nothing(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    assert (await sessions.resume(app, session.id)).status == "idle"
    live = (await sessions.details(app, session.id))["live"]
    assert (live["status"], live["lastTurn"]) == ("idle", None)
    pid = supervisor_pid(app, session)
    await sessions.resume(app, session.id)
    await say(app, session.id, "hello")
    assert supervisor_pid(app, session) == pid


async def test_settings_and_servers_survive_a_killed_supervisor(app, tmp_path):
    server = {"name": "probe", "command": "/bin/true", "args": [], "env": []}
    session = await sessions.create(app, spec(tmp_path, mcp_servers=(server,)))
    await sessions.configure(app, session.id, model="mock-fast", mode="plan")
    await sessions.configure(app, session.id, option=("thought_level", "high"))
    await say(app, session.id, "hello")
    kill(app, session)
    result = await say(app, session.id, "@mcp")
    assert ("probe" in result.text, result.context) == (True, "restored")
    live = (await sessions.details(app, session.id))["live"]
    assert (live["model"], live["agentMode"], live["thoughtLevel"]) == ("mock-fast", "plan", "high")


async def test_a_session_whose_directory_is_gone_says_so_and_comes_back_with_it(app, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    session = await sessions.create(app, spec(tmp_path, cwd=str(place)))
    await say(app, session.id, "the codeword is heron")
    await session_end.release(app, session.id)
    place.rmdir()
    with pytest.raises(errors.UsageError, match="is gone"):
        await say(app, session.id, "hello")
    place.mkdir()
    assert "heron" in (await say(app, session.id, "@recall")).text


async def test_a_session_released_before_anything_was_said_loses_nothing(app, tmp_path, monkeypatch):
    monkeypatch.setenv("MOCK_AGENT_FLAGS", "--no-load --no-resume")
    env = {"MOCK_AGENT_FLAGS": "--no-load --no-resume"}
    session = await sessions.create(app, spec(tmp_path, env=env))
    await session_end.release(app, session.id)
    assert (await say(app, session.id, "hello")).context == "new"


async def test_the_times_of_the_spec_reach_supervisor_and_agent(app, tmp_path, monkeypatch):
    boots = []

    class KeptBoot(Boot):
        def __init__(self, **fields):
            super().__init__(**fields)
            if not self.home:  # as we made it, not as the provider completes it
                boots.append(self)

    monkeypatch.setattr(provision, "Boot", KeptBoot)
    times = {"idle_timeout_s": 7.5, "stall_timeout_s": 11.0, "start_timeout_s": 13.0}
    await sessions.create(app, spec(tmp_path, **times))
    await sessions.create(app, spec(tmp_path, idle_timeout_s=None, stall_timeout_s=None))
    assert [boot.idle_timeout_s for boot in boots] == [7.5, None]
    requests = [boot.session["request"] for boot in boots]
    assert [r.get("stallTimeoutS") for r in requests] == [11.0, None]
    assert [r.get("startTimeoutS") for r in requests] == [13.0, None]


async def test_an_idle_sandbox_leaves_by_itself_and_is_told_as_hibernated(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path, idle_timeout_s=0.5))
    async with asyncio.timeout(60):
        while (await sessions.listing(app))[0].status != "hibernated":
            await asyncio.sleep(0.05)
    assert (await say(app, session.id, "hello")).outcome == "completed"


async def test_a_supervisor_that_left_by_itself_is_found_hibernated_and_costs_no_search(app, tmp_path, monkeypatch):
    session = await sessions.create(app, spec(tmp_path))
    app.store.update_session(session.id, status="hibernated")
    monkeypatch.setattr(app.provider("unix_local"), "inspect", None)
    assert (await sessions.listing(app))[0].status == "hibernated"
    monkeypatch.undo()


def events_of(*told):
    """Mirrored events from ``(type, data, turn id)``."""
    bodies = [
        {"sequence": n, "time": "2026-11-21T09:00:00.000Z", "type": kind, "data": data, "turn_id": turn_id}
        for n, (kind, data, turn_id) in enumerate(told, 1)
    ]
    return [Event(b["sequence"], b, json.dumps(b).encode()) for b in bodies]


def queued(turn_id, when_busy="queue"):
    return ("turn.queued", {"turn_id": turn_id, "message": {"message": turn_id, "whenBusy": when_busy}}, None)


def started(turn_id):
    return ("turn.started", {"turn_id": turn_id, "metadata": {}}, turn_id)


def ended(turn_id, outcome="completed", during=None):
    return ("turn.ended", {"turn_id": turn_id, "metadata": {"outcome": outcome}}, during or turn_id)


async def test_queued_messages_are_handed_to_the_next_supervisor_in_their_order(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    told = [started("a"), queued("b"), queued("c"), queued("d", "interrupt"), queued("e"), ended("e", "cancelled", "a")]
    mirror.apply(app, session.id, events_of(*told))
    prepared = await launch.prepare(app, session)
    request = launch.session_request(app, app.store.session(session.id), prepared.recipe, None)
    assert [(m["turnId"], m["message"]) for m in request["queued"]] == [("d", "d"), ("b", "b"), ("c", "c")]
    assert request["interruptedTurnId"] == "a"
    now = app.store.session(session.id)
    assert (now.status, now.last_turn_id, now.last_outcome) == ("busy", "a", None)


async def test_a_queued_turn_that_began_is_queued_no_more(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    mirror.apply(app, session.id, events_of(queued("b"), started("b")))
    assert mirror.queued_messages(app, session.id) == []
    turn = app.store.turn(session.id, "b")
    assert (turn.status, turn.first_sequence) == ("running", 2)
    assert mirror.open_turn_of(app, session.id).id == "b"


async def test_a_stalled_turn_is_seen_in_the_list(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    mirror.apply(app, session.id, events_of(started("a"), ("turn.stalled", {"turn_id": "a", "silent_s": 3}, "a")))
    assert app.store.session(session.id).status == "stalled"


@pytest.mark.slow
async def test_a_stopped_supervisor_is_found_out_and_replaced_by_one_with_a_higher_number(app, tmp_path, monkeypatch):
    monkeypatch.setattr("agentctl.ops.reach.ASK_S", 0.5)
    monkeypatch.setattr("agentctl.ops.reach.ASK_AGAIN_S", 0.5)
    monkeypatch.setattr("agentctl.providers.unix_local.STOP_GRACE_S", 1)
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "the codeword is heron")
    before = app.store.sandbox(app.store.session(session.id).sandbox_id)
    os.kill(supervisor_pid(app, session), signal.SIGSTOP)
    result = await say(app, session.id, "@recall")
    assert ("heron" in result.text, result.context) == (True, "restored")
    assert app.store.sandbox(app.store.session(session.id).sandbox_id).fencing > before.fencing
    assert (await app.provider("unix_local").inspect(before.handle)).status == "missing"


@pytest.mark.slow
async def test_a_killed_supervisor_costs_the_next_turn_little(app, tmp_path):
    """The number is in the report of the benchmarks; here it must only not get out of hand on a busy machine."""
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "hello")
    kill(app, session)
    begun = time.perf_counter()
    await say(app, session.id, "again")
    assert time.perf_counter() - begun < 5
