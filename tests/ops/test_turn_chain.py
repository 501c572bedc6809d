"""A message and its turns, when supervisors die at the worst moment: it has its effect once, or as often as asked."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from agentctl import errors
from agentctl.ops import interrupted, session_end, sessions, turns
from agentctl.supervisor.processes import ProcessIdentity
from agentctl.supervisor_client import SupervisorClient
from tests.ops.support import say, spec, supervisor_pid


async def kill(app, session):
    supervisor = ProcessIdentity.of(supervisor_pid(app, session))
    os.kill(supervisor.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while supervisor.is_alive():
            await asyncio.sleep(0.005)


@pytest.fixture
def dying(app, monkeypatch):
    """Make the supervisor die once: ``before`` or ``after`` it is sent a message."""

    def arm(session, when):
        send = SupervisorClient.send

        async def dies(self, session_id, message):
            monkeypatch.setattr(SupervisorClient, "send", send)
            if when == "before":
                await kill(app, session)
            answer = await send(self, session_id, message)
            await kill(app, session)
            raise errors.SupervisorUnreachable(f"it died after {answer}")

        monkeypatch.setattr(SupervisorClient, "send", dies)

    return arm


async def chain(app, ref, text, **fields):
    told = []
    message = turns.Message(text=text, **fields)
    async with asyncio.timeout(60), interrupted.open_turns(app, ref, message, tell=told.append) as watched:
        events = [event async for batch in watched for event in batch]
    return watched.result, events, told


def effects(tmp_path):
    path = tmp_path / "ran"
    return len(path.read_text().splitlines()) if path.exists() else 0


async def test_a_supervisor_that_dies_before_it_hears_the_message_is_followed_by_one_that_does(app, tmp_path, dying):
    session = await sessions.create(app, spec(tmp_path))
    dying(session, "before")
    result = await say(app, session.id, f'@sh!="echo x >> {tmp_path}/ran"')
    assert (result.outcome, effects(tmp_path)) == ("completed", 1)


async def test_a_supervisor_that_dies_with_the_message_leaves_an_interrupted_turn_and_no_second_one(
    app, tmp_path, dying
):
    session = await sessions.create(app, spec(tmp_path))
    dying(session, "after")
    result, events, _ = await chain(app, session.id, "@hang", turn_id="mine")
    assert (result.outcome, result.interrupted) == ("interrupted", ["mine"])
    assert [e.type for e in events if e.type.startswith("turn.")] == ["turn.started", "turn.ended"]
    assert "--turn-id mine" in result.error["hint"]


async def test_a_turn_whose_sandbox_was_replaced_by_another_command_is_interrupted(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    async with asyncio.timeout(60), turns.open_turn(app, session.id, turns.Message(text="@hang")) as turn:
        async for batch in turn:
            if batch[-1].type == "item.completed":
                break
        await kill(app, session)
        await say(app, session.id, "another command")
        async for _ in turn:
            pass
    assert turn.result.outcome == "interrupted"


async def test_a_deleted_session_ends_the_watch_with_the_error_that_says_so(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    message = turns.Message(text="@hang", on_interrupt="retry")

    async def watch():
        async with asyncio.timeout(60), interrupted.open_turns(app, session.id, message) as watched:
            async for batch in watched:
                if batch[0].type == "turn.started":
                    await session_end.delete(app, session.id)

    with pytest.raises(errors.SessionNotFound):
        await watch()


async def test_a_cancelled_turn_is_not_taken_up_again(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    message = turns.Message(text="@hang", on_interrupt="retry")
    async with asyncio.timeout(60), interrupted.open_turns(app, session.id, message) as watched:
        async for batch in watched:
            if batch[0].type == "turn.started":
                await watched.cancel()
                await kill(app, session)
    assert watched.result.outcome in ("cancelled", "interrupted")
    assert watched.result.turn_id == watched.turn.turn_id
    assert "~" not in watched.result.turn_id


async def test_what_is_sent_and_not_watched_tells_its_place(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    running = await turns.send(app, session.id, turns.Message(text="@hang", turn_id="a"))
    waiting = await turns.send(app, session.id, turns.Message(text="x", turn_id="b", when_busy="queue"))
    assert running == {"turn_id": "a", "status": "running", "position": None}
    assert waiting == {"turn_id": "b", "status": "queued", "position": 1}
    await turns.cancel(app, session.id, turn_id="b")
    assert await turns.send(app, session.id, turns.Message(text="x", turn_id="b")) == {
        "turn_id": "b",
        "status": "ended",
        "position": None,
    }
