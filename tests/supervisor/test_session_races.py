"""What happens to a session when things come at once, or come in between: starts, ends, cancels, deaths."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal

import pytest

from agentctl import errors
from agentctl.supervisor.processes import marked
from agentctl.wire import PermissionSetup
from tests.supervisor.support import ALL, Gate, mock_recipe, supervisor
from tests.supervisor.test_session_api import events_until, session, turn


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


async def kill_agent(client):
    """SIGKILL the agent between turns, and wait until its supervisor has seen it. Returns the last event's number."""
    seen = await events_until(client, "session.started")
    os.kill(seen[-1].data["metadata"]["pid"], signal.SIGKILL)
    return (await events_until(client, "sandbox.agent_exited"))[-1].sequence


def starts(seen):
    return [e for e in seen if e.type in ("session.started", "sandbox.agent_started")]


async def test_a_message_a_setting_and_a_call_at_once_start_one_agent(tmp_path, gate):
    async with session(tmp_path, recipe=gate.recipe) as (running, client):
        gate.close()
        last = await kill_agent(client)
        await client.send("ses_x", {"message": "hello", "turnId": "trn_1"})
        asking = asyncio.gather(
            client.configure("ses_x", {"model": "mock-fast"}), client.call("ses_x", "session/list", {})
        )
        await asyncio.sleep(0.1)  # for them to arrive, which nothing shows
        gate.open()
        await asking
        seen = await events_until(client, "turn.ended", last)
        assert seen[-1].data["metadata"]["outcome"] == "completed"
        assert len(starts(seen)) == 1
        agents = [p for p in marked(running.sandbox_id) if p.pid != running.process.pid]
        assert len(agents) == 1


async def test_a_turn_cancelled_while_its_agent_starts_is_never_prompted(tmp_path, gate):
    async with session(tmp_path, recipe=gate.recipe) as (_, client):
        gate.close()
        last = await kill_agent(client)
        await client.send("ses_x", {"message": "@write!=effect"})
        assert (await client.cancel("ses_x"))["cancelled"]
        seen = await events_until(client, "turn.ended", last)
        assert seen[-1].data["metadata"]["outcome"] == "cancelled"
        gate.open()
        seen, summary = await turn(client, "@context", offset=seen[-1].sequence)
    assert summary["outcome"] == "completed"
    assert summary["context"] == "restored"
    assert not (tmp_path / "project" / "effect").exists()


async def test_a_deadline_holds_while_the_agent_starts(tmp_path, gate):
    async with session(tmp_path, recipe=gate.recipe) as (_, client):
        gate.close()
        last = await kill_agent(client)
        _, summary = await turn(client, "@write!=effect", offset=last, timeoutS=0.1)
    assert summary["outcome"] == "timeout"
    assert not (tmp_path / "project" / "effect").exists()


async def test_a_message_while_the_last_agent_is_still_dying_waits_for_a_new_one(tmp_path):
    async with session(tmp_path) as (_, client):
        seen, _ = await turn(client, "@ignore-eof @ignore-term @close-stdout")
        _, summary = await turn(client, "hello", offset=seen[-1].sequence)
    assert (summary["outcome"], summary["context"]) == ("completed", "restored")


async def test_a_message_to_a_session_that_is_being_created_is_its_first_turn(tmp_path, gate):
    gate.close()
    async with supervisor(tmp_path, gate.recipe) as running, running.client() as client:
        body = {"agent": "mock", "cwd": str(tmp_path / "project")}
        creating = asyncio.create_task(client.create_session("ses_x", body, timeout_s=60))
        async with asyncio.timeout(30):
            while (await client.health())["sessions"] == 0:
                pass
        sent = await client.send("ses_x", {"message": "hello", "turnId": "trn_1"})
        again = await client.send("ses_x", {"message": "hello", "turnId": "trn_1"})
        gate.open()
        await creating
        seen = await events_until(client, "turn.ended")
    assert (sent["duplicate"], again["duplicate"]) == (False, True)
    assert seen[-1].data["metadata"]["outcome"] == "completed"


async def test_leaving_while_an_agent_starts_leaves_no_process(tmp_path, gate):
    async with session(tmp_path, recipe=gate.recipe) as (running, client):
        gate.close()
        await kill_agent(client)
        await client.send("ses_x", {"message": "hello"})
        await client.shutdown()
        async with asyncio.timeout(30):
            await running.process.wait()
        assert marked(running.sandbox_id) == []


async def test_a_conversation_lost_while_the_supervisor_lives_goes_on_when_the_message_allows_it(tmp_path):
    async with session(tmp_path, "--no-resume", "--no-load") as (_, client):
        last = await kill_agent(client)
        seen, summary = await turn(client, "hello", offset=last)
        assert summary["error"]["code"] == "context_lost"
        _, summary = await turn(client, "hello", offset=seen[-1].sequence, onLost="new")
    assert (summary["outcome"], summary["context"]) == ("completed", "lost")


MODES = {
    **ALL,
    "ask": PermissionSetup(mode="plan"),
    "deny": PermissionSetup(mode="plan"),
    "accept-edits": PermissionSetup(env={"ASK": "1"}),
    "allow": PermissionSetup(mode="default"),
}


async def test_a_stricter_turn_puts_the_agent_into_the_mode_that_asks_and_the_next_one_back(tmp_path):
    async with session(tmp_path, recipe=mock_recipe(permissions=MODES), permissions="allow") as (_, client):
        seen, _ = await turn(client, "hello", permissionMode="deny")
        assert (await client.snapshot("ses_x"))["agentMode"] == "plan"
        await turn(client, "hello", offset=seen[-1].sequence)
        assert (await client.snapshot("ses_x"))["agentMode"] == "default"


async def test_a_stricter_turn_is_refused_when_the_agent_obeys_only_from_its_start(tmp_path):
    recipe = mock_recipe(permissions={**ALL, "deny": PermissionSetup(env={"ASK": "1"})})
    async with session(tmp_path, recipe=recipe, permissions="allow") as (_, client):
        with pytest.raises(errors.Unsupported, match="only from its start"):
            await client.send("ses_x", {"message": "hello", "permissionMode": "deny"})
        assert (await client.snapshot("ses_x"))["status"] == "idle"
        with pytest.raises(errors.UsageError):
            await client.send("ses_x", {"message": "hello", "permissionMode": "whatever"})


WRONG = [
    {"attachments": ["no block"]},
    {"turnId": "two\nlines"},
    {"turnId": 7},
    {"permissionMode": ["deny"]},
    {"onLost": "perhaps"},
]


async def test_a_message_of_the_wrong_shape_is_refused_and_blocks_nothing(tmp_path):
    async with session(tmp_path) as (_, client):
        for wrong in WRONG:
            with pytest.raises(errors.UsageError):
                await client.send("ses_x", {"message": "hello", **wrong})
            assert (await turn(client, "hello"))[1]["outcome"] == "completed"


async def test_half_a_surrogate_pair_in_a_message_does_not_poison_the_session(tmp_path):
    async with session(tmp_path) as (_, client):
        _, summary = await turn(client, "@echo half \udc80")
        assert summary["outcome"] == "completed"
        assert (await client.snapshot("ses_x"))["lastTurn"]["outcome"] == "completed"


async def test_a_log_deleted_under_a_living_session_is_told_and_not_written_on(tmp_path):
    async with session(tmp_path) as (_, client):
        shutil.rmtree(tmp_path / "log")
        for text in ("hello", "again"):
            with pytest.raises(errors.StateError, match="deleted"):
                await client.send("ses_x", {"message": text})
        snapshot = await client.snapshot("ses_x")
        assert (snapshot["status"], snapshot["turnId"]) == ("failed", None)
        assert "deleted" in snapshot["error"]["message"]


async def test_an_agent_file_that_cannot_be_written_fails_the_turn(tmp_path):
    recipe = mock_recipe(files={"sub/config": "x"})
    async with session(tmp_path, recipe=recipe) as (_, client):
        last = await kill_agent(client)
        shutil.rmtree(tmp_path / "home" / "sub")
        (tmp_path / "home" / "sub").write_text("in the way")
        _, summary = await turn(client, "hello", offset=last)
    assert (summary["outcome"], summary["error"]["code"]) == ("failed", "state_error")


async def test_a_crash_after_a_denial_is_a_denial_that_tells_the_crash(tmp_path):
    async with session(tmp_path, permissions="deny") as (_, client):
        _, summary = await turn(client, "@permission @crash")
    assert summary["outcome"] == "denied"
    assert summary["error"]["details"]["agent_error"]["code"] == "agent_process_exited"


async def test_a_deleted_log_does_not_keep_the_sandbox_alive(tmp_path):
    async with session(tmp_path) as (running, client):
        await turn(client, "hello")
        shutil.rmtree(tmp_path / "log")
        await client.shutdown()
        async with asyncio.timeout(30):
            await running.process.wait()
