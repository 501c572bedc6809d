"""A sandbox without its agent: for files, commands and terminals; a later message opens the session in it."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from agentctl import errors
from agentctl.ops import mirror, reach, session_end, sessions
from agentctl.ops.report import silent
from tests.ops.support import say, spec, supervisor_pid


async def bare(app, session):
    """Bring the sandbox up; the process id of its supervisor."""
    async with asyncio.timeout(60), reach.sandbox_of(app, app.store.session(session.id), silent) as client:
        health = await client.health()
    assert health["sessions"] == 0
    return health["pid"]


async def test_a_sandbox_comes_up_without_its_agent_and_the_message_after_it_finds_the_same_one(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    pid = await bare(app, session)
    assert pid == await bare(app, session)
    assert app.store.session(session.id).status == "new"
    assert (await say(app, session.id, "hello")).context == "new"
    assert supervisor_pid(app, session) == pid
    async with reach.sandbox_of(app, app.store.session(session.id), silent) as client:
        assert (await client.health())["sessions"] == 1


async def test_a_sandbox_needs_neither_credentials_nor_an_installed_agent(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    needy = spec(tmp_path, agent="claude")
    app.store.update_session(session.id, spec=needy)
    pid = await bare(app, session)
    with pytest.raises(errors.AgentctlError):
        await say(app, session.id, "hello")
    app.store.update_session(session.id, spec=spec(tmp_path))
    assert (await say(app, session.id, "hello")).outcome == "completed"
    assert supervisor_pid(app, session) == pid


async def test_the_credentials_are_those_of_the_time_of_the_message_and_are_redacted(app, tmp_path):
    env_file = tmp_path / "secrets.env"
    env_file.write_text("SERVICE_TOKEN=canary-before-0001\n")
    session = await sessions.create(app, spec(tmp_path, env_files=(str(env_file),)), provision=False)
    await bare(app, session)
    env_file.write_text("SERVICE_TOKEN=canary-later-0002\n")
    assert "[redacted]" in (await say(app, session.id, "@env!=SERVICE_TOKEN")).text
    log = app.paths.volumes / "default" / mirror.log_path(session.id)
    written = b"".join(path.read_bytes() for path in log.iterdir())
    assert b"canary" not in written


async def test_a_sandbox_comes_up_without_a_secret_that_is_missing_and_the_message_after_it_does_not(app, tmp_path):
    env_file = tmp_path / "secrets.env"
    env_file.write_text("SERVICE_TOKEN=canary-before-0001\n")
    session = await sessions.create(app, spec(tmp_path, env_files=(str(env_file),)), provision=False)
    env_file.unlink()
    await bare(app, session)
    with pytest.raises(errors.UsageError):
        await say(app, session.id, "hello")


async def test_a_sleeping_session_wakes_in_the_sandbox_that_was_made_for_its_files(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path))
    await say(app, session.id, "the codeword is heron")
    await session_end.release(app, session.id)
    pid = await bare(app, session)
    assert app.store.session(session.id).status == "hibernated"
    result = await say(app, session.id, "@recall")
    assert ("heron" in result.text, result.context) == (True, "restored")
    assert supervisor_pid(app, session) == pid
    numbers = [sequence for sequence, _ in app.store.events(session.id)]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_session_that_does_not_open_leaves_the_sandbox_to_its_other_users(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path, model="no-such-model"), provision=False)
    pid = await bare(app, session)
    with pytest.raises(errors.UsageError):
        await say(app, session.id, "hello")
    assert pid == await bare(app, session)


async def test_many_at_once_share_one_bare_sandbox(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    assert len({*await asyncio.gather(*(bare(app, session) for _ in range(5)))}) == 1


async def test_a_killed_bare_sandbox_is_made_anew(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    pid = await bare(app, session)
    os.kill(pid, signal.SIGKILL)
    assert await bare(app, session) != pid


async def test_releasing_and_deleting_end_a_bare_sandbox(app, tmp_path):
    session = await sessions.create(app, spec(tmp_path), provision=False)
    await bare(app, session)
    await session_end.release(app, session.id)
    assert app.store.sandboxes() == []
    await bare(app, session)
    await session_end.delete(app, session.id)
    assert [f async for f in app.provider("unix_local").find_by_labels({})] == []
