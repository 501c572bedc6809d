"""Sandboxes of their own: made once, found again, shared with sessions, gone without a trace."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from agentctl import errors
from agentctl.model import SessionSpec
from agentctl.ops import exec as execs
from agentctl.ops import (
    reach,
    sandbox_background,
    sandbox_events,
    sandbox_facts,
    sandbox_up,
    sandboxes,
    session_end,
    sessions,
)
from agentctl.ops.deadline import within
from agentctl.ops.own import Own
from agentctl.ops.report import silent
from agentctl.store import sandboxes as store_sandboxes
from agentctl.supervisor.processes import ProcessIdentity
from tests.ops.support import say, spec


@pytest.fixture(autouse=True)
async def no_sandbox_is_left(app):
    yield
    for sandbox in sandbox_facts.labelled(app, {}):
        await sandboxes.delete(app, sandbox.id, force=True)
    for session in app.store.sessions(limit=None):
        await session_end.delete(app, session.id)
    assert [f async for f in app.provider("unix_local").find_by_labels({})] == []


def place(tmp_path, **fields) -> SessionSpec:
    return SessionSpec(**{"agent": "", "cwd": str(tmp_path), **fields})


async def made(app, tmp_path, name="build", **how):
    return (await sandboxes.create(app, place(tmp_path), name=name, **how)).sandbox


def alive(pid):
    process = ProcessIdentity.of(pid)
    return process is not None and process.is_alive()


async def told(app, ref, **which):
    return [event.type async for page in sandbox_events.events(app, ref, **which) for event in page]


async def output_of(app, name, *argv):
    """What a command prints in the sandbox."""
    async with execs.started(app, Own(name), execs.Command(argv=argv)) as started:
        pieces = []
        async for batch in started.processes.follow(started.id, attach=True):
            pieces += [piece.data for piece in batch if hasattr(piece, "data")]
        return b"".join(pieces).decode()


async def test_it_comes_up_without_a_session_and_runs_commands_in_a_home_of_its_own(app, tmp_path):
    sandbox = await made(app, tmp_path)
    assert sandbox.status == "running"
    assert app.store.sessions() == []
    home = app.paths.volumes / "default" / "agents" / sandbox.id / "home"
    assert await output_of(app, "build", "sh", "-c", "echo $HOME; pwd") == f"{home}\n{tmp_path}\n"
    shown = await sandbox_facts.details(app, "build")
    assert (shown["boundary"], shown["live"]["sessions"]) == ("none", 0)
    assert shown["transport"].startswith("unix socket /")
    assert shown["sweep"] in ("cgroup", "environment")


async def test_the_same_spec_returns_the_one_that_is_there_and_another_spec_is_a_conflict_that_names_the_difference(
    app, tmp_path
):
    first = await made(app, tmp_path, ttl_s=3600)
    again = await sandboxes.create(app, place(tmp_path, labels={"a": "b"}), name="build", ttl_s=3600)
    assert (again.is_new, again.sandbox.id) == (False, first.id)
    with pytest.raises(errors.AlreadyExists) as raised:
        await sandboxes.create(app, place(tmp_path, env={"A": "1"}), name="build", ttl_s=60)
    assert raised.value.details["differ"] == ["env", "ttl_s"]
    assert raised.value.exit_code == 10
    assert len(app.store.sandboxes()) == 1


async def test_many_creates_of_one_name_at_once_make_one_sandbox(app, tmp_path):
    found = await asyncio.gather(*(sandboxes.create(app, place(tmp_path), name="build") for _ in range(5)))
    assert len({one.sandbox.id for one in found}) == 1
    assert [one.is_new for one in found].count(True) == 1
    assert await told(app, "build") == ["sandbox.created", "sandbox.started"]


async def test_stopping_keeps_its_files_and_what_needs_it_next_brings_it_up(app, tmp_path):
    await made(app, tmp_path)
    await output_of(app, "build", "sh", "-c", "echo kept > ~/file")
    stopped = await sandboxes.stop(app, "build")
    assert stopped.status == (await sandbox_facts.get(app, "build")).status == "stopped"
    assert [f async for f in app.provider("unix_local").find_by_labels({})] == []
    assert (await sandboxes.stop(app, "build")).status == "stopped"
    assert await output_of(app, "build", "sh", "-c", "cat ~/file") == "kept\n"
    expected = ["created", "started", "stopped", "started"]
    assert await told(app, "build") == [f"sandbox.{what}" for what in expected]


async def test_restarting_is_one_event_and_nothing_of_before_runs_on(app, tmp_path):
    await made(app, tmp_path)
    async with execs.started(app, Own("build"), execs.Command(argv=("sleep", "600"), attach=False)) as started:
        pid = started.info["pid"]
    restarted = await sandboxes.restart(app, "build")
    assert restarted.status == "running"
    assert not alive(pid)
    assert await told(app, "build") == ["sandbox.created", "sandbox.started", "sandbox.restarted"]


async def test_one_whose_supervisor_was_killed_is_told_to_have_stopped_and_comes_up_again(app, tmp_path):
    sandbox = await made(app, tmp_path)
    os.kill(sandbox.handle["pid"], signal.SIGKILL)
    async with asyncio.timeout(60):
        while (await sandbox_facts.get(app, "build")).status != "stopped":
            await asyncio.sleep(0.01)
    assert await output_of(app, "build", "echo", "back") == "back\n"
    assert await told(app, "build", offset=2) == ["sandbox.stopped", "sandbox.started"]


async def test_two_that_find_it_dead_at_once_tell_it_once(app, tmp_path):
    sandbox = await made(app, tmp_path)
    await app.provider("unix_local").remove(sandbox.handle)
    await asyncio.gather(*(sandbox_facts.get(app, "build") for _ in range(4)))
    assert await told(app, "build", offset=2) == ["sandbox.stopped"]


async def test_a_maker_that_died_before_it_wrote_the_sandbox_down_leaves_nothing_behind(app, tmp_path):
    sandbox = await made(app, tmp_path)
    app.store.change_sandbox(sandbox, status="creating", handle={})
    finished = await sandboxes.create(app, place(tmp_path), name="build")
    assert finished.sandbox.status == "running"
    assert not alive(sandbox.handle["pid"])
    assert len([f async for f in app.provider("unix_local").find_by_labels({})]) == 1


async def test_a_create_that_fails_or_takes_too_long_leaves_no_sandbox_and_its_events_say_why(app, tmp_path):
    async def never(spec):
        await asyncio.Event().wait()

    provider = app.provider("unix_local")
    provider.create = never
    with pytest.raises(errors.DeadlineExceeded, match=r"Making it was not done within 0\.2 s"):
        async with within(0.2, "Making it"):
            await made(app, tmp_path)
    assert app.store.sandboxes() == []
    del provider.create
    assert await told(app, "build") == ["sandbox.created", "sandbox.failed", "sandbox.deleted"]
    assert (await made(app, tmp_path)).status == "running"


async def test_one_in_the_background_is_accepted_at_once_and_told_by_events_when_it_is_completed(app, tmp_path):
    accepted = await sandboxes.create(app, place(tmp_path), name="build", wait=False)
    assert accepted.sandbox.status == "creating"
    assert sandbox_facts.to_json(accepted.sandbox)["completed"] is False
    sandbox_background.begin(app, accepted.sandbox, "create")
    last = sandbox_facts.last_sequence(app, accepted.sandbox)
    async with asyncio.timeout(60):
        assert await told(app, "build", offset=last, follow=True, limit=1) == ["sandbox.started"]
    assert (await sandbox_facts.get(app, "build")).status == "running"


async def test_a_failure_in_the_background_is_kept_and_the_next_create_of_the_same_tries_again(app, tmp_path):
    directory = tmp_path / "work"
    directory.mkdir()
    env_file = tmp_path / "some.env"
    env_file.write_text("A=1\n")
    wanted = place(directory, env_files=(str(env_file),))
    accepted = await sandboxes.create(app, wanted, name="build", wait=False)

    async def refuse(spec):
        raise errors.ProviderUnavailable("no room")

    app.provider("unix_local").create = refuse
    await sandbox_background.work(app, "create", accepted.sandbox.id, 10)
    del app.provider("unix_local").create
    failed = await sandbox_facts.get(app, "build")
    assert (failed.status, failed.error["message"]) == ("failed", "no room")
    assert await told(app, "build") == ["sandbox.created", "sandbox.failed"]
    assert (await sandboxes.create(app, wanted, name="build")).sandbox.status == "running"
    assert (await sandbox_facts.get(app, "build")).error is None


async def test_a_command_that_is_killed_while_it_makes_one_is_made_good_by_the_next(app, tmp_path):
    code = """
        import asyncio, os, signal, sys
        from agentctl.model import SessionSpec
        from agentctl.ops import sandboxes
        from agentctl.ops.app import App
        app = App.open()
        provider = app.provider("unix_local")
        create = provider.create
        async def killed(spec):
            await create(spec)
            os.kill(os.getpid(), signal.SIGKILL)
        provider.create = killed
        asyncio.run(sandboxes.create(app, SessionSpec(agent="", cwd=sys.argv[1]), name="build"))
    """
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], timeout=60)
    [left] = [f async for f in app.provider("unix_local").find_by_labels({})]
    assert app.store.named_sandbox("build").status == "creating"
    assert (await made(app, tmp_path)).status == "running"
    assert not alive(left.handle["pid"])


@pytest.mark.slow
async def test_after_its_time_to_live_it_leaves_by_itself_and_the_next_look_deletes_it(app, tmp_path):
    sandbox = await made(app, tmp_path, ttl_s=1.0)
    async with asyncio.timeout(60):
        while (await app.provider("unix_local").inspect(sandbox.handle)).status == "running":
            await asyncio.sleep(0.05)
    with pytest.raises(errors.SandboxNotFound, match="time to live"):
        await output_of(app, "build", "true")
    assert await sandboxes.listing(app) == []
    assert (await told(app, sandbox.id))[-1] == "sandbox.deleted"


@pytest.mark.slow
async def test_it_stops_by_itself_when_nothing_runs_in_it(app, tmp_path):
    sandbox = (await sandboxes.create(app, place(tmp_path, idle_timeout_s=0.5), name="build")).sandbox
    async with asyncio.timeout(60):
        while (await sandbox_facts.get(app, "build")).status == "running":
            await asyncio.sleep(0.05)
    assert sandbox.id == (await sandbox_facts.get(app, "build")).id
    assert await told(app, "build", offset=2) == ["sandbox.stopped"]


async def test_deleting_takes_its_files_and_the_events_stay(app, tmp_path):
    sandbox = await made(app, tmp_path)
    await output_of(app, "build", "sh", "-c", "echo x > ~/file")
    await sandboxes.delete(app, "build")
    assert not (app.paths.volumes / "default" / "agents" / sandbox.id).exists()
    with pytest.raises(errors.SandboxNotFound):
        await sandbox_facts.get(app, "build")
    assert (await told(app, "build"))[-1] == "sandbox.deleted"
    assert (await told(app, sandbox.id, follow=True))[-1] == "sandbox.deleted"
    again = await made(app, tmp_path)
    assert again.id != sandbox.id
    assert await told(app, "build") == ["sandbox.created", "sandbox.started"]


async def test_an_offset_that_is_no_longer_kept_is_an_error_and_without_one_it_begins_with_what_is(
    app, tmp_path, monkeypatch
):
    monkeypatch.setattr(store_sandboxes, "KEPT_EVENTS", 3)
    await made(app, tmp_path)
    for _ in range(2):
        await sandboxes.restart(app, "build")
    with pytest.raises(errors.SequenceExpired) as raised:
        await told(app, "build", offset=0)
    assert raised.value.details["first"] == 2
    assert len(await told(app, "build")) == 3
    assert len(await told(app, "build", offset=1)) == 3


async def test_unix_local_cannot_pause_and_says_what_to_do_instead(app, tmp_path):
    await made(app, tmp_path)
    for verb in (sandboxes.pause, sandboxes.resume):
        with pytest.raises(errors.Unsupported) as raised:
            await verb(app, "build")
        assert "sandboxes stop" in raised.value.hint


async def test_secrets_reach_its_commands_and_are_found_nowhere_else(app, tmp_path):
    app.given_secrets["API_KEY"] = "canary-7c1e"
    wanted = place(tmp_path, secrets=({"name": "API_KEY", "from": "stored"},))
    await sandboxes.create(app, wanted, name="build")
    assert await output_of(app, "build", "sh", "-c", "test $API_KEY = canary-7c1e && echo same") == "same\n"
    events = [e.line async for page in sandbox_events.events(app, "build") for e in page]
    shown = json.dumps(await sandbox_facts.details(app, "build")).encode()
    assert b"canary" not in b"".join(events) + shown
    assert b"canary" not in (app.paths.root / "agentctl.db").read_bytes()


# sessions in a sandbox


async def bound(app, tmp_path, **fields):
    return await sessions.create(app, sandboxes.bound(app, spec(tmp_path, **fields), "build"), provision=False)


async def test_sessions_share_a_sandbox_and_each_keeps_its_own_conversation(app, tmp_path):
    sandbox = await made(app, tmp_path)
    one, other = await bound(app, tmp_path), await bound(app, tmp_path)
    await say(app, one.id, "the codeword is heron")
    await say(app, other.id, "the codeword is otter")
    assert {app.store.session(s.id).sandbox_id for s in (one, other)} == {sandbox.id}
    assert "heron" in (await say(app, one.id, "@recall")).text
    assert "otter" in (await say(app, other.id, "@recall")).text
    assert (await sandbox_facts.details(app, "build"))["live"]["sessions"] == 2
    for session in (one, other):
        numbers = [sequence for sequence, _ in app.store.events(session.id)]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_a_released_session_leaves_its_sandbox_and_the_others_alone_and_comes_back(app, tmp_path):
    await made(app, tmp_path)
    one, other = await bound(app, tmp_path), await bound(app, tmp_path)
    await say(app, one.id, "the codeword is heron")
    await say(app, other.id, "hello")
    released = await session_end.release(app, one.id)
    assert released.status == "hibernated"
    assert (await sandbox_facts.details(app, "build"))["live"]["sessions"] == 1
    result = await say(app, one.id, "@recall")
    assert ("heron" in result.text, result.context) == (True, "restored")
    assert (await say(app, other.id, "hello")).context == "live"


async def test_sessions_survive_the_death_of_their_sandbox(app, tmp_path):
    sandbox = await made(app, tmp_path)
    one, other = await bound(app, tmp_path), await bound(app, tmp_path)
    await say(app, one.id, "the codeword is heron")
    await say(app, other.id, "the codeword is otter")
    os.kill(app.store.named_sandbox("build").handle["pid"], signal.SIGKILL)
    results = await asyncio.gather(say(app, one.id, "@recall"), say(app, other.id, "@recall"))
    assert [r.context for r in results] == ["restored", "restored"]
    assert "heron" in results[0].text
    assert "otter" in results[1].text
    assert app.store.named_sandbox("build").id == sandbox.id


async def test_a_sandbox_with_sessions_is_deleted_only_by_force_and_they_keep_their_history(app, tmp_path):
    await made(app, tmp_path)
    session = await bound(app, tmp_path)
    await say(app, session.id, "hello")
    with pytest.raises(errors.Conflict, match=session.name):
        await sandboxes.delete(app, "build")
    assert (await sandbox_facts.get(app, "build")).status == "running"
    await sandboxes.delete(app, "build", force=True)
    assert app.store.session(session.id).status == "hibernated"
    assert b"turn.ended" in b"".join(line for _, line in app.store.events(session.id))
    with pytest.raises(errors.SandboxNotFound):
        await say(app, session.id, "hello")


async def test_deleting_a_session_ends_its_agent_and_its_log_but_not_the_sandbox(app, tmp_path):
    sandbox = await made(app, tmp_path)
    session = await bound(app, tmp_path)
    await say(app, session.id, "hello")
    log = app.paths.volumes / "default" / "agents" / sandbox.id / "log" / "sessions" / session.id
    assert log.is_dir()
    await session_end.delete(app, session.id, at_once=True)
    assert not log.exists()
    assert (await sandbox_facts.details(app, "build"))["live"]["sessions"] == 0


async def test_a_session_takes_its_place_from_its_sandbox(app, tmp_path):
    await sandboxes.create(app, place(tmp_path, workspace="shared"), name="build")
    session = await sessions.create(
        app, sandboxes.bound(app, replace(spec(tmp_path), cwd=None), "build"), provision=False
    )
    assert (session.spec.workspace, session.spec.cwd) == ("shared", str(tmp_path))
    async with reach.sandbox_of(app, session, silent) as client:
        assert (await client.health())["sandbox_id"] == session.spec.sandbox


async def test_a_paused_or_expired_one_is_refused_with_the_command_that_helps(app, tmp_path):
    sandbox = await made(app, tmp_path)
    with pytest.raises(errors.SandboxNotFound):
        sandbox_up.require_usable(app, replace(sandbox, ttl_s=0.0))
    with pytest.raises(errors.SandboxNotFound) as raised:
        await sandbox_facts.get(app, "biuld")
    assert "'build'" in raised.value.hint
