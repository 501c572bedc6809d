"""Sessions whose commands, supervisors, volumes and directories die at the worst moment."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys

import pytest

from agentctl import errors
from agentctl.model import Turn
from agentctl.ops import mirror, reach, session_end, sessions, turns
from agentctl.ops.report import silent
from agentctl.supervisor.log.session_log import LogReader
from agentctl.supervisor.processes import ProcessIdentity
from tests.ops.support import say, spec, supervisor_pid

SLOW_AGENT = (sys.executable, "-IS", reach.__file__.replace("ops/reach.py", "supervisor/mock/agent.py"))


async def ended_in_log(app, session, turn_id):
    """Wait for a turn's end in the log on the volume, which nobody mirrors meanwhile; return the log."""
    log = LogReader(app.paths.volumes / "default" / mirror.log_path(session.id))
    async with asyncio.timeout(60):
        while True:
            records = log.read(0)
            if any(b'"type":"turn.ended"' in r.line and turn_id.encode() in r.line for r in records):
                return records
            await asyncio.sleep(0.01)


async def test_a_turn_that_ended_unseen_does_not_run_again_for_its_id(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    await turns.submit(app, session.id, turns.Message(text="@say=first", turn_id="trn_1"))
    await ended_in_log(app, session, "trn_1")
    os.kill(supervisor_pid(app, session), signal.SIGKILL)
    assert (await say(app, session.id, "@say=second", turn_id="trn_1")).text == "first"
    assert [e async for page in turns.events(app, session.id) for e in page if e.type == "turn.started"][1:] == []


async def test_events_mirrored_without_their_rows_do_not_happen(app, tmp_path, monkeypatch):
    """Whoever dies while mirroring leaves the whole batch to the next."""
    session = await sessions.create(app, spec(tmp_path))
    await turns.submit(app, session.id, turns.Message(text="hello", turn_id="trn_1"))
    await ended_in_log(app, session, "trn_1")

    class Died(BaseException):
        pass

    def die(*args, **kwargs):
        raise Died

    monkeypatch.setattr(mirror, "_keep_request", die)
    with pytest.raises(Died):
        await mirror.from_volume(app, app.store.session(session.id))
    monkeypatch.undo()
    mirrored = await mirror.from_volume(app, app.store.session(session.id))
    assert (mirrored.status, mirrored.last_outcome) == ("idle", "completed")
    assert app.store.turn(session.id, "trn_1").status == "ended"


async def test_reading_history_again_does_not_change_what_the_session_is(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "one", turn_id="trn_1")
    await say(app, session.id, "two", turn_id="trn_2")
    page = [e async for batch in turns.events(app, session.id) for e in batch]
    begun = next(i for i, e in enumerate(page) if e.type == "turn.started")
    mirror.apply(app, session.id, page[: begun + 1])
    now = app.store.session(session.id)
    assert (now.status, now.last_turn_id) == ("idle", "trn_2")


async def test_a_request_whose_supervisor_was_killed_waits_no_more(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    async with asyncio.timeout(60), turns.open_turn(app, session.id, turns.Message(text="@permission")) as turn:
        async for batch in turn:
            if any(e.type == "permission.requested" for e in batch):
                os.kill(supervisor_pid(app, session), signal.SIGKILL)
    await say(app, session.id, "hello")
    assert await turns.requests(app, session.id) == []


async def test_a_session_found_dead_is_said_and_not_stored(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    supervisor = ProcessIdentity.of(supervisor_pid(app, session))
    os.kill(supervisor.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while supervisor.is_alive():
            await asyncio.sleep(0.01)
    assert (await sessions.listing(app))[0].status == "dead"
    assert app.store.session(session.id).status == "idle"
    await say(app, session.id, "hello")
    assert (await sessions.listing(app))[0].status == "idle"


async def test_a_session_whose_run_directory_was_deleted_comes_back_and_can_be_deleted(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    shutil.rmtree(app.paths.run)
    result = await say(app, session.id, "hello")
    assert (result.outcome, result.context) == ("completed", "restored")
    shutil.rmtree(app.paths.run)
    await session_end.delete(app, session.id)
    assert app.store.sandboxes() == []


async def test_a_session_whose_volume_was_deleted_shows_what_was_mirrored_and_goes_on(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "one")
    shutil.rmtree(app.paths.volumes)
    with pytest.raises(errors.StateError, match="deleted"):
        await say(app, session.id, "two")
    await say(app, session.id, "three", on_lost="new")
    followed = []
    async with asyncio.timeout(60):
        async for page in turns.events(app, session.id, follow=True):
            followed += page
            if followed[-1].type == "turn.ended" and len({e.turn_id for e in followed} - {None}) == 2:
                break
    assert followed[0].sequence == 1


async def test_raw_events_after_the_last_one_are_none_and_no_wait(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "hello")
    async with asyncio.timeout(60):
        assert [p async for p in turns.events(app, session.id, offset=999, include_raw=True)] == []
        pages = [p async for p in turns.events(app, session.id, include_raw=True)]
    assert any("raw" in e.body for page in pages for e in page)
    assert pages[-1][-1].sequence == app.store.session(session.id).last_sequence


async def test_deleting_a_session_while_it_comes_up_leaves_nothing(app, tmp_path):
    slow = spec(tmp_path, agent="custom", agent_command=(*SLOW_AGENT, "--init-delay=1"))
    session = await sessions.create(app, slow, provision=False)
    sending = asyncio.create_task(say(app, session.id, "hello"))
    async with asyncio.timeout(60):
        while not app.store.sandboxes():
            await asyncio.sleep(0.01)
    await session_end.delete(app, session.id)
    assert isinstance((await asyncio.gather(sending, return_exceptions=True))[0], errors.AgentctlError)
    assert app.store.sandboxes() == []
    assert [f async for f in app.provider("unix_local").find_by_labels({})] == []


async def test_a_message_to_a_session_that_another_command_brings_up_waits_for_it(app, tmp_path):
    slow = spec(tmp_path, agent="custom", agent_command=(*SLOW_AGENT, "--init-delay=1"))
    session = await sessions.create(app, slow, provision=False)

    async def bring_up():
        async with reach.living(app, session, silent):
            pass

    coming = asyncio.create_task(bring_up())
    async with asyncio.timeout(60):
        while not app.store.sandboxes():
            await asyncio.sleep(0.01)
    results = await asyncio.gather(*(say(app, session.id, "hello", turn_id="trn_1") for _ in range(2)))
    await coming
    assert [r.outcome for r in results] == ["completed", "completed"]
    started = [e async for page in turns.events(app, session.id) for e in page if e.type == "turn.started"]
    assert len(started) == 1


async def test_two_settings_changed_at_once_are_both_kept(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    await asyncio.gather(
        sessions.configure(app, session.id, model="mock-fast"), sessions.configure(app, session.id, mode="plan")
    )
    kept = app.store.session(session.id).spec
    assert (kept.model, kept.mode) == ("mock-fast", "plan")


async def test_a_message_with_attachments_beyond_what_a_sandbox_takes_is_refused_before_it_is_sent(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    block = {"type": "text", "text": "x" * 40_000_000}
    with pytest.raises(errors.BodyTooLarge):
        await say(app, session.id, "hello", attachments=(block, block))
    assert (await say(app, session.id, "hello")).outcome == "completed"


@pytest.mark.slow
async def test_a_stopped_supervisor_is_no_interrupted_turn(app, tmp_path, monkeypatch):
    """Nobody knows what becomes of the turn, so nobody says that it has ended."""
    monkeypatch.setattr("agentctl.supervisor_client.transport.SILENCE_TIMEOUT_S", 0.5)
    monkeypatch.setattr("agentctl.ops.turn_stream.RETRY_S", 0.5)
    session = await sessions.create(app, spec(tmp_path))
    pid = supervisor_pid(app, session)

    async def watch():
        async with asyncio.timeout(60), turns.open_turn(app, session.id, turns.Message(text="@hang")) as turn:
            async for batch in turn:
                if batch[-1].turn_id:
                    os.kill(pid, signal.SIGSTOP)

    with pytest.raises(errors.SupervisorUnreachable) as caught:
        await watch()
    os.kill(pid, signal.SIGCONT)
    assert "may be going on" in caught.value.hint
    assert (await turns.cancel(app, session.id))["cancelled"]


def test_an_error_of_the_supervisor_is_the_same_error_here():
    for code in ("rate_limited", "token_invalid", "body_too_large", "not_acceptable", "unsupported_media_type"):
        rebuilt = errors.from_code(code, "text")
        assert rebuilt.code == code
        assert json.loads(json.dumps(rebuilt.to_json()))["code"] == code


async def test_a_session_released_under_a_command_is_asleep_and_not_unknown(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))

    async def configure_what_was_terminated():
        async with reach.living(app, session, silent) as link:
            await link.client.request("POST", f"/v1/sessions/{session.id}/terminate", {})
            await link.client.configure(session.id, {"model": "mock-fast"})

    with pytest.raises(errors.SandboxError, match="put to sleep"):
        await configure_what_was_terminated()


async def test_a_sandbox_that_ends_as_soon_as_it_was_started_is_worth_another_try(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    sandbox = app.store.sandbox(session.sandbox_id)
    provider = app.provider(sandbox.provider)
    await provider.remove(sandbox.handle)
    with pytest.raises(errors.SupervisorUnreachable, match="ended at once") as told:
        await reach.client_to_new(provider, sandbox.handle)
    assert told.value.retryable


async def test_what_the_log_has_before_a_turn_is_mirrored_when_only_the_turns_row_was_written(app, tmp_path):
    """The writer of the mirror died between the two."""
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "hello")
    await session_end.release(app, session.id)
    message = turns.Message(text="again", turn_id="trn_again")
    await turns.submit(app, session.id, message)
    log = await ended_in_log(app, session, "trn_again")
    first = next(r.sequence for r in log if b'"type":"turn.started"' in r.line and b"trn_again" in r.line)
    assert first > app.store.session(session.id).last_sequence + 1
    app.store.put_turn(
        Turn(id="trn_again", session_id=session.id, status="running", created_at=1.0, first_sequence=first)
    )
    async with turns.open_turn(app, session.id, message) as turn:
        told = [event.sequence async for batch in turn for event in batch]
    assert (turn.result.outcome, told[0]) == ("completed", first)
    numbers = [number for number, _ in app.store.events(session.id)]
    assert numbers == list(range(1, told[-1] + 1))
