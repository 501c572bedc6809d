"""What happens behind agentctl's back, and the next message that goes on as if nothing had happened.

Fifteen scenarios that any orchestrator of agents has to survive, and what else of that kind was found worth a test.
Each is played on every provider (``plugs.py``); those in which the agent's memory is the point with real agents too.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from pathlib import Path

import pytest

from agentctl import errors
from agentctl.events import Event
from agentctl.ops import session_end, sessions, turns
from agentctl.ops.app import App
from agentctl.providers.prespawn import prespawn
from tests.recovery.leftovers import leftovers
from tests.recovery.stage import Stage, alone, context_matters

A_WHILE_S = 0.3
"""Long enough that every reader has seen the end of its stream."""

DESTROYED_WITHIN_S = 20.0
ENDED_WITHIN_S = 60.0


async def struck_when_it_speaks(turn: AsyncIterable[list[Event]], blow: Callable[[], Awaitable[None]]) -> None:
    """Follow a turn to its end, with one blow at its first words."""
    has_spoken = False
    async for batch in turn:
        if not has_spoken and any(event.type == "item.delta" for event in batch):
            has_spoken = True
            await blow()


# Stopped and deleted


async def test_01_a_stopped_sandbox_starts_again(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    await stage.plug.stop(sandbox)
    await stage.goes_on(session)
    stage.has_the_sandbox(sandbox, again=stage.plug.starts_again)


async def test_02_a_release_keeps_what_is_in_home(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    stage.plug.marker(session).write_text("kept")
    await session_end.release(stage.app, "work")
    assert stage.plug.starts_again or await stage.plug.remains(sandbox) == []
    assert stage.plug.marked(session) == "kept"
    await stage.goes_on(session)
    assert stage.plug.marker(stage.session).read_text() == "kept"


async def test_03_deleting_the_session_destroys_its_sandbox(stage: Stage) -> None:
    _, sandbox = await stage.first_turn("the codeword is heron")
    assert await stage.plug.remains(sandbox) != []
    started = time.monotonic()
    await session_end.delete(stage.app, "work")
    while left := await stage.plug.remains(sandbox):
        assert time.monotonic() - started < DESTROYED_WITHIN_S, left
        await asyncio.sleep(0.05)


@context_matters
async def test_04_a_deleted_sandbox_takes_no_memory_with_it(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron", "the second one is crane")
    await stage.plug.delete(sandbox)
    await stage.goes_on(session)
    stage.has_the_sandbox(sandbox, again=False)


async def test_05_another_client_goes_on_after_a_stop(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    await stage.plug.stop(sandbox)
    with App.open() as another:
        await stage.goes_on(session, app=another)


async def test_06_another_client_goes_on_after_a_deletion(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    await stage.plug.delete(sandbox)
    with App.open() as another:
        await stage.goes_on(session, app=another)
    stage.has_the_sandbox(sandbox, again=False)


@context_matters
async def test_07_a_stop_that_nobody_notices_loses_nothing_the_agent_made_up(stage: Stage) -> None:
    await stage.first_turn("hello")
    await stage.made_up_value()
    session, sandbox = stage.session, stage.sandbox
    reader = stage.reads_on()
    await stage.plug.stop(sandbox)
    await asyncio.sleep(A_WHILE_S)
    stage.is_the_same_conversation(session)
    await stage.goes_on(session)
    live = (await sessions.details(stage.app, "work"))["live"]
    assert live["nativeSessionId"] == session.native_session_id
    assert reader.is_whole


async def test_08_a_message_right_after_a_stop_is_answered(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    stage.reads_on()
    await stage.plug.stop(sandbox)
    await stage.goes_on(session)


async def test_09_a_message_long_after_a_stop_is_answered(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    await stage.plug.stop(sandbox)
    await asyncio.sleep(A_WHILE_S)
    [listed] = await sessions.listing(stage.app)
    assert listed.status == "dead"
    await stage.goes_on(session)


# An event stream that stays open


async def test_10_an_open_stream_sees_the_turn_after_a_stop(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    reader = stage.reads_on()
    await stage.plug.stop(sandbox)
    await asyncio.sleep(A_WHILE_S)
    await reader.ended((await stage.goes_on(session)).turn_id)
    assert reader.is_whole


async def test_11_an_open_stream_sees_the_turn_after_a_deletion(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    reader = stage.reads_on()
    await stage.plug.delete(sandbox)
    await asyncio.sleep(A_WHILE_S)
    await reader.ended((await stage.goes_on(session)).turn_id)
    assert reader.is_whole


async def test_12_an_open_stream_sees_the_turn_after_a_release(stage: Stage) -> None:
    session, _ = await stage.first_turn("the codeword is heron")
    reader = stage.reads_on()
    await session_end.release(stage.app, "work")
    await asyncio.sleep(A_WHILE_S)
    await reader.ended((await stage.goes_on(session)).turn_id)
    assert reader.is_whole


async def test_13_an_open_stream_sees_the_turn_after_the_supervisors_death(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    reader = stage.reads_on()
    await stage.plug.kill_supervisor(sandbox)
    await asyncio.sleep(A_WHILE_S)
    await reader.ended((await stage.goes_on(session)).turn_id)
    stage.has_the_sandbox(sandbox, again=stage.plug.starts_again)
    assert reader.is_whole


async def test_14_a_message_right_after_the_supervisors_death_is_answered(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    reader = stage.reads_on()
    await stage.plug.kill_supervisor(sandbox)
    await reader.ended((await stage.goes_on(session)).turn_id)


async def test_an_open_stream_of_a_session_that_is_deleted_ends_and_says_so(stage: Stage) -> None:
    await stage.first_turn("the codeword is heron")
    reader = stage.reads_on()
    await asyncio.sleep(A_WHILE_S)
    await session_end.delete(stage.app, "work")
    with pytest.raises(errors.SessionNotFound):
        await reader.end()


async def test_15_turns_that_nobody_watches_are_in_the_log(stage: Stage, tmp_path: Path) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    reader = stage.reads_on()
    await stage.plug.kill_supervisor(sandbox)
    await reader.close()
    for turn_id in ("trn_1", "trn_2"):
        message = turns.Message(text=stage.talk.tell(f"unwatched {turn_id}"), turn_id=turn_id)
        assert await turns.submit(stage.app, "work", message) == turn_id
        await ended_in_log(stage, turn_id, tmp_path / turn_id)
    found = [event async for page in turns.events(stage.app, "work") for event in page]
    for turn_id in ("trn_1", "trn_2"):
        of_turn = [event for event in found if event.turn_id == turn_id]
        users = [e for e in of_turn if e.type == "item.completed" and e.data["item"]["role"] == "user"]
        assert [e.data["item"]["content"][0]["text"] for e in users] == [f"unwatched {turn_id}"]
        assert [e.data["metadata"]["outcome"] for e in of_turn if e.type == "turn.ended"] == ["completed"]
    stage.is_the_same_conversation(session)


async def ended_in_log(stage: Stage, turn_id: str, scratch: Path) -> None:
    """Wait for a turn's end in the log itself: no client is asked, no store is brought up to date."""
    mark, looks = f'"turn_id":"{turn_id}"'.encode(), itertools.count()
    async with asyncio.timeout(ENDED_WITHIN_S):
        while True:
            records = stage.plug.log(stage.session, scratch / str(next(looks))).read(stage.session.last_sequence)
            if any(b'"type":"turn.ended"' in record.line and mark in record.line for record in records):
                return
            await asyncio.sleep(0.02)


# In the middle of it


async def test_a_message_that_meets_a_stop_never_ends_in_silence(stage: Stage) -> None:
    session, _ = await stage.first_turn("the codeword is heron")
    stage.reads_on()
    for pause_s in (0.0, 0.005, 0.02):
        sent = asyncio.create_task(stage.say(stage.talk.tell("do you hear me")))
        await asyncio.sleep(pause_s)
        await stage.plug.stop(stage.sandbox)
        [ended] = await asyncio.gather(sent, return_exceptions=True)
        assert isinstance(ended, errors.SandboxError) or ended.outcome in ("completed", "interrupted"), ended
        await stage.goes_on(session, context=("restored", "live"))


@context_matters
async def test_a_turn_that_a_stop_cut_off_is_interrupted_and_pins_nothing(stage: Stage) -> None:
    session, _ = await stage.first_turn("the codeword is heron")
    for attempt in ("one", "two"):
        async with (
            asyncio.timeout(60),
            turns.open_turn(stage.app, "work", turns.Message(text=stage.talk.last(20), turn_id=attempt)) as turn,
        ):
            await struck_when_it_speaks(turn, lambda: stage.plug.stop(stage.sandbox))
        assert turn.result.outcome == "interrupted"
        assert turn.result.text, "what was seen of the answer is told"
        again = await stage.say(stage.talk.last(20), turn_id=attempt)
        assert (again.outcome, again.text) == ("interrupted", turn.result.text), "it is never sent again by itself"
        await stage.goes_on(session)
    live = (await sessions.details(stage.app, "work"))["live"]
    assert (live["status"], live["turnId"], live["requests"]) == ("idle", None, [])


async def test_nothing_is_left_after_the_worst_that_can_happen(stage: Stage) -> None:
    """A sandbox whose supervisor and run directory are gone at once, with a tool that got away, in mid-turn."""
    _, sandbox = await stage.first_turn("the codeword is heron")
    async with (
        asyncio.timeout(60),
        turns.open_turn(stage.app, "work", turns.Message(text="@grandchild=60 @chunks=400 @delay=0.05")) as turn,
    ):
        await struck_when_it_speaks(turn, lambda: stage.plug.kill_supervisor(sandbox))
    assert turn.result.outcome == "interrupted"
    await session_end.delete(stage.app, "work")
    assert await stage.plug.remains(sandbox) == []
    assert leftovers(stage.app.paths, [sandbox.id]) == []
    assert not os.listdir(stage.plug.place("agents"))


async def test_a_sandbox_whose_maker_died_before_it_bore_its_labels_is_cleared_away(stage: Stage) -> None:
    """Killed at its very start: a process or a directory that only the session's row names."""
    session, _ = await stage.first_turn("the codeword is heron")
    await session_end.release(stage.app, "work")
    unborn = prespawn(stage.app.paths, "sbx_unborn")
    unborn.close()
    stage.app.store.update_session(session.id, sandbox_id=unborn.sandbox_id, status="starting")
    await stage.goes_on(session)
    assert [path.name for path in stage.app.paths.run.iterdir()] == [stage.sandbox.id]
    unborn.discard()


@alone
@pytest.mark.slow
async def test_a_session_that_is_idle_is_put_to_sleep_under_an_open_stream(stage: Stage) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    await session_end.release(stage.app, "work")
    impatient = {**session.spec.to_json(), "idle_timeout_s": 0.5}
    stage.app.store.update_session(session.id, spec=type(session.spec).from_json(impatient))
    await stage.goes_on(session)
    sandbox = stage.sandbox
    reader = stage.reads_on()
    async with asyncio.timeout(60):
        while [left for left in await stage.plug.remains(sandbox) if left.startswith("process")]:
            await asyncio.sleep(0.05)
    [listed] = await sessions.listing(stage.app)
    assert listed.status == "hibernated"
    await reader.ended((await stage.goes_on(session)).turn_id)
    assert reader.is_whole


# Memory that is really gone


@alone
@pytest.mark.parametrize("on_lost", ["fail", "new", "replay"])
async def test_a_conversation_that_the_agent_has_lost_is_said_and_never_hidden(stage: Stage, on_lost: str) -> None:
    session, sandbox = await stage.first_turn("the codeword is heron")
    await stage.plug.stop(sandbox)
    stage.plug.forget(session)
    if on_lost == "fail":
        with pytest.raises(errors.ContextLost):
            await stage.say("hello")
        assert stage.session.native_session_id == session.native_session_id
        return
    async with (
        asyncio.timeout(60),
        turns.open_turn(stage.app, "work", turns.Message(text="@context", on_lost=on_lost)) as turn,
    ):
        async for _ in turn:
            pass
    assert turn.result.context == {"new": "lost", "replay": "replayed"}[on_lost]
    assert stage.session.native_session_id != session.native_session_id
    kinds = [event.type async for page in turns.events(stage.app, "work") for event in page]
    assert kinds.count("session.context_lost") == 1
