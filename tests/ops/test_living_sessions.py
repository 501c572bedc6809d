"""Sessions through the ops, with real local sandboxes and the mock agent: found, lost, brought back, ended."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from agentctl import errors
from agentctl.ops import session_end, sessions, turns
from agentctl.ops.app import App
from agentctl.supervisor.processes import marked
from tests.ops.support import say, spec, supervisor_pid


async def test_a_session_without_provisioning_starts_with_its_first_message(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    assert (session.status, session.sandbox_id) == ("new", None)
    result = await say(app, session.id, "hello")
    assert (result.outcome, result.text, result.context) == ("completed", "mock: hello", "new")
    assert (await say(app, session.id, "again")).context == "live"


async def test_a_killed_supervisor_is_found_out_and_the_conversation_goes_on(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "the codeword is heron")
    os.kill(supervisor_pid(app, session), signal.SIGKILL)
    result = await say(app, session.id, "@recall")
    assert result.context == "restored"
    assert "heron" in result.text
    numbers = [sequence for sequence, _ in app.store.events(session.id)]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_supervisor_killed_in_mid_turn_leaves_an_interrupted_turn_with_its_text(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    message = turns.Message(text="@chunks=400 @delay=0.05", turn_id="trn_cut")
    async with asyncio.timeout(60), turns.open_turn(app, session.id, message) as turn:
        async for batch in turn:
            if batch[-1].type == "item.delta":
                os.kill(supervisor_pid(app, session), signal.SIGKILL)
                break
        async for _ in turn:
            pass
    assert turn.result.outcome == "interrupted"
    assert turn.result.text
    await say(app, session.id, "hello")
    cut = app.store.turn(session.id, "trn_cut")
    assert (cut.status, cut.outcome) == ("ended", "interrupted")
    assert (await say(app, session.id, "never sent again", turn_id="trn_cut")).outcome == "interrupted"


async def test_two_messages_to_a_sleeping_session_make_one_sandbox(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    outcomes = await asyncio.gather(say(app, session.id, "a"), say(app, session.id, "b"), return_exceptions=True)
    done = [o for o in outcomes if not isinstance(o, BaseException)]
    refused = [o for o in outcomes if isinstance(o, BaseException)]
    assert done
    assert all(isinstance(o, errors.SessionBusy) for o in refused)
    assert len(app.store.sandboxes()) == 1
    assert len([f async for f in app.provider("unix_local").find_by_labels({"session": session.id})]) == 1


async def test_a_released_session_sleeps_and_wakes_with_its_memory(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "the codeword is heron")
    released = await session_end.release(app, session.id)
    assert (released.status, released.sandbox_id) == ("hibernated", None)
    assert (await session_end.release(app, session.id)).status == "hibernated"
    assert "heron" in (await say(app, session.id, "@recall")).text


async def test_a_supervisor_that_leaves_by_itself_leaves_nothing_in_the_system(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    sandbox = app.store.sandbox(app.store.session(session.id).sandbox_id)
    os.kill(sandbox.handle["pid"], signal.SIGTERM)
    async with asyncio.timeout(60):
        while (await app.provider("unix_local").inspect(sandbox.handle)).status == "running":
            await asyncio.sleep(0.02)
    assert marked(sandbox.id) == []
    assert sandbox.handle["cgroup"] is None or not os.path.exists(sandbox.handle["cgroup"])


@pytest.mark.parametrize("at_once", [False, True], ids=["in good order", "at once"])
async def test_deleting_a_session_ends_every_process_and_removes_its_files(app, tmp_path, at_once):
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "@grandchild")
    sandbox_id = app.store.session(session.id).sandbox_id
    volume = app.paths.volumes / "default" / "agents" / session.id
    assert marked(sandbox_id)
    assert volume.is_dir()
    await session_end.delete(app, session.id, at_once=at_once)
    assert marked(sandbox_id) == []
    assert not volume.exists()
    with pytest.raises(errors.SessionNotFound):
        app.store.session(session.id)


async def test_a_create_that_fails_leaves_no_session_and_no_process(app, tmp_path):
    with pytest.raises(errors.UsageError):
        await sessions.create(app, spec(tmp_path, model="no-such-model"), name="x")
    assert app.store.sessions(limit=None) == []
    assert app.store.sandboxes() == []
    assert [f async for f in app.provider("unix_local").find_by_labels({})] == []


async def test_a_changed_setting_survives_the_sandbox(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    changed = await sessions.configure(app, session.id, model="mock-fast")
    assert changed.spec.model == "mock-fast"
    await session_end.release(app, session.id)
    await say(app, session.id, "hello")
    assert (await sessions.details(app, session.id))["live"]["model"] == "mock-fast"


async def test_the_same_name_with_the_same_spec_is_the_same_session(app, tmp_path):
    first = await sessions.create(app, spec(tmp_path), name="x", provision=False)
    again = await sessions.create(app, spec(tmp_path), name="x", provision=False, if_not_exists=True)
    assert again.id == first.id
    with pytest.raises(errors.SessionExists):
        await sessions.create(app, spec(tmp_path), name="x", provision=False)
    with pytest.raises(errors.SessionExists):
        await sessions.create(app, spec(tmp_path, mode="plan"), name="x", provision=False, if_not_exists=True)


async def test_a_secret_of_an_env_file_reaches_the_agent_and_nothing_that_is_written(app, tmp_path):
    canary = "canary-7f3a9c51d2"
    env_file = tmp_path / "secrets.env"
    env_file.write_text(f"SERVICE_TOKEN={canary}\n")
    session = await sessions.create(app, spec(tmp_path, env_files=(str(env_file),)))
    result = await say(app, session.id, "@env!=SERVICE_TOKEN")
    assert canary not in result.text
    assert "[redacted]" in result.text
    ours = [p for p in app.paths.root.rglob("*") if p.is_file() and "home" not in p.parts]  # HOME is the agent's own
    written = [p for p in ours if canary.encode() in p.read_bytes()]
    assert written == []


async def test_a_request_is_answered_by_another_command(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    async with asyncio.timeout(60), turns.open_turn(app, session.id, turns.Message(text="@permission")) as turn:
        async for batch in turn:
            if batch[-1].type == "permission.requested":
                with App.open() as other:
                    waiting = await turns.requests(other, session.id)
                    assert len(waiting) == 1
                    await turns.answer(other, session.id, reply="once")
    assert turn.result.outcome == "completed"
    with pytest.raises(errors.RequestResolved):
        await turns.answer(app, session.id, waiting[0].id, reply="once")


async def test_a_throw_away_session_can_still_be_read_by_another_command(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False, ephemeral=True)
    result = await say(app, session.id, "hello")
    assert result.text == "mock: hello"
    kinds = [e.type async for batch in turns.events(app, session.id) for e in batch]
    assert kinds[0] == "session.started"
    assert kinds[-1] == "turn.ended"
