"""The session API of a real supervisor process with the real mock agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time

import pytest

from agentctl import errors
from agentctl.supervisor import supervisor as supervisor_module
from agentctl.supervisor.processes import ProcessIdentity, marked
from agentctl.wire import Boot, PermissionSetup
from tests.supervisor.support import TOKEN, ask, mock_recipe, supervisor


@contextlib.asynccontextmanager
async def session(root, *flags, recipe=None, permissions="ask", boot=None, **fields):
    """A supervisor with one session ``ses_x`` of the mock agent, and a client to it."""
    recipe = recipe or mock_recipe(*flags)
    async with supervisor(root, recipe, **(boot or {})) as running, running.client() as client:
        body = {"agent": recipe.name, "cwd": str(root / "project"), "permissionMode": permissions, **fields}
        await client.create_session("ses_x", body, timeout_s=60)
        yield running, client


async def events_until(client, wanted, offset=0):
    """All events up to the first one of type ``wanted``."""
    seen = []
    async with asyncio.timeout(60):
        async for batch in client.stream("ses_x", offset):
            for event in batch:
                seen.append(event)
                if event.type == wanted:
                    return seen
    raise AssertionError(f"no {wanted} in {[e.type for e in seen]}")


async def turn(client, text, offset=0, **fields):
    """Send a message, wait for its end, and return its events and its summary."""
    await client.send("ses_x", {"message": text, **fields})
    seen = await events_until(client, "turn.ended", offset)
    return seen, seen[-1].data["metadata"]


async def test_a_turn_is_told_from_start_to_end_with_numbers_without_gaps(tmp_path):
    async with session(tmp_path) as (_, client):
        seen, summary = await turn(client, "hello")
    assert seen[0].type == "session.started"
    assert [e.sequence for e in seen] == list(range(1, len(seen) + 1))
    assert summary["outcome"] == "completed"
    assert summary["stop_reason"] == "end_turn"
    started = {e.data["item"]["item_id"] for e in seen if e.type == "item.started"}
    completed = [e.data["item"]["item_id"] for e in seen if e.type == "item.completed"]
    assert sorted(completed) == sorted(started)


async def test_the_same_turn_id_again_is_the_same_turn(tmp_path):
    async with session(tmp_path) as (_, client):
        first = await client.send("ses_x", {"message": "@delay=0.05 @chunks=4", "turnId": "trn_mine"})
        again = await client.send("ses_x", {"message": "@delay=0.05 @chunks=4", "turnId": "trn_mine"})
        await events_until(client, "turn.ended")
        after = await client.send("ses_x", {"message": "hello", "turnId": "trn_mine"})
        page = (await client.snapshot("ses_x"))["eventCount"]
    assert (first["duplicate"], again["duplicate"], after["duplicate"]) == (False, True, True)
    assert after["status"] == "ended"
    assert page > 0


async def test_a_second_message_during_a_turn_is_refused_as_busy(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@hang"})
        with pytest.raises(errors.SessionBusy):
            await client.send("ses_x", {"message": "hello"})
        await client.cancel("ses_x")
        seen = await events_until(client, "turn.ended")
    assert seen[-1].data["metadata"]["outcome"] == "cancelled"


async def test_an_empty_message_is_a_usage_error_and_starts_nothing(tmp_path):
    async with session(tmp_path) as (_, client):
        before = (await client.snapshot("ses_x"))["eventCount"]
        with pytest.raises(errors.UsageError):
            await client.send("ses_x", {"message": "  "})
        assert (await client.snapshot("ses_x"))["status"] == "idle"
        assert (await client.snapshot("ses_x"))["eventCount"] >= before


async def test_an_image_to_an_agent_without_images_is_refused_before_anything_is_sent(tmp_path):
    image = {"type": "image", "mimeType": "image/png", "data": "aGk="}
    async with session(tmp_path, "--no-image") as (_, client):
        with pytest.raises(errors.UsageError, match="image"):
            await client.send("ses_x", {"message": "look", "attachments": [image]})
        assert (await client.snapshot("ses_x"))["status"] == "idle"


async def test_a_permission_waits_is_listed_and_is_answered_from_elsewhere(tmp_path):
    async with session(tmp_path) as (running, client):
        await client.send("ses_x", {"message": "@permission"})
        seen = await events_until(client, "permission.requested")
        request_id = seen[-1].data["permission_id"]
        snapshot = await client.snapshot("ses_x")
        assert snapshot["status"] == "waiting"
        assert [r["permission_id"] for r in snapshot["requests"]] == [request_id]
        async with running.client() as other:
            await other.reply_permission("ses_x", request_id, {"reply": "once"})
            with pytest.raises(errors.RequestResolved):
                await other.reply_permission("ses_x", request_id, {"reply": "once"})
        seen = await events_until(client, "turn.ended")
    resolved = next(e for e in seen if e.type == "permission.resolved")
    assert (resolved.data["status"], resolved.data["metadata"]["by"]) == ("accept", "user")
    assert seen[-1].data["metadata"]["outcome"] == "completed"


@pytest.mark.parametrize(
    ("permissions", "status", "outcome"),
    [("allow", "accept", "completed"), ("deny", "reject", "denied")],
)
async def test_a_policy_answers_at_once_and_its_denial_is_the_outcome(tmp_path, permissions, status, outcome):
    async with session(tmp_path, permissions=permissions) as (_, client):
        seen, summary = await turn(client, "@permission")
    resolved = next(e for e in seen if e.type == "permission.resolved")
    assert (resolved.data["status"], resolved.data["metadata"]["by"]) == (status, "policy")
    assert summary["outcome"] == outcome
    assert bool(summary["denied"]) == (outcome == "denied")


async def test_a_person_s_no_is_counted_but_is_no_denied_outcome(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@permission"})
        seen = await events_until(client, "permission.requested")
        await client.reply_permission("ses_x", seen[-1].data["permission_id"], {"reply": "reject"})
        seen = await events_until(client, "turn.ended")
    summary = seen[-1].data["metadata"]
    assert summary["outcome"] == "completed"
    assert [d["by"] for d in summary["denied"]] == ["user"]


async def test_a_request_that_nobody_answers_is_denied(tmp_path):
    async with session(tmp_path) as (_, client):
        _, summary = await turn(client, "@permission", requestTimeoutS=0.2)
    assert summary["outcome"] == "denied"
    assert summary["denied"][0]["by"] == "timeout"
    assert summary["error"]["code"] == "permission_denied"


async def test_accepted_denials_leave_the_turn_completed(tmp_path):
    async with session(tmp_path, permissions="deny") as (_, client):
        _, summary = await turn(client, "@permission", acceptDenials=True)
    assert summary["outcome"] == "completed"
    assert len(summary["denied"]) == 1


async def test_the_deadline_ends_a_turn_as_timeout(tmp_path):
    async with session(tmp_path) as (_, client):
        _, summary = await turn(client, "@hang", timeoutS=0.3)
        assert summary["outcome"] == "timeout"
        _, summary = await turn(client, "hello", offset=(await client.snapshot("ses_x"))["eventCount"])
        assert summary["outcome"] == "completed"


async def test_a_deadline_with_a_request_open_is_a_denial(tmp_path):
    async with session(tmp_path) as (_, client):
        _, summary = await turn(client, "@permission", timeoutS=0.3)
    assert summary["outcome"] == "denied"


async def test_kill_ends_a_turn_without_asking_the_agent(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@hang @ignore-cancel"})
        await client.cancel("ses_x", kill=True)
        seen = await events_until(client, "turn.ended")
    assert seen[-1].data["metadata"]["outcome"] == "cancelled"


async def test_a_crash_in_mid_turn_is_a_failure_that_tells_exit_code_and_stderr(tmp_path):
    async with session(tmp_path) as (_, client):
        seen, summary = await turn(client, "@stderr=3 @crash=2")
        assert summary["outcome"] == "failed"
        assert summary["error"]["code"] == "agent_process_exited"
        assert summary["error"]["details"]["exit_code"] not in (None, 0)
        assert summary["error"]["details"]["stderr"]["total_lines"] >= 3
        last = summary["error"]["details"]["stderr"]["head"].split("\n")[-1]
        assert summary["error"]["hint"] == f"Its last words: {last}"
        assert len(last) > 1
        exited = next(e for e in seen if e.type == "sandbox.agent_exited")
        assert exited.turn_id == seen[-1].turn_id
        _, summary = await turn(client, "hello", offset=seen[-1].sequence)
        assert (summary["outcome"], summary["context"]) == ("completed", "restored")


@pytest.mark.parametrize(
    ("stop", "outcome"), [("refusal", "refused"), ("max_tokens", "limit"), ("max_turn_requests", "limit")]
)
async def test_stop_reasons_become_outcomes(tmp_path, stop, outcome):
    async with session(tmp_path) as (_, client):
        _, summary = await turn(client, f"@stop={stop}")
    assert (summary["stop_reason"], summary["outcome"]) == (stop, outcome)


async def test_a_json_rpc_error_fails_the_turn_with_the_agent_s_words(tmp_path):
    async with session(tmp_path) as (_, client):
        _, summary = await turn(client, "@error=-32603")
    assert summary["outcome"] == "failed"
    assert summary["error"]["details"]["code"] == -32603


async def test_a_rejected_login_is_told_as_credentials(tmp_path):
    async with session(tmp_path) as (_, client):
        _, summary = await turn(client, "@error=-32000")
    assert summary["error"]["code"] in ("credentials_missing", "credentials_rejected")


async def test_garbage_and_unknown_variants_are_kept_and_end_nothing(tmp_path):
    async with session(tmp_path) as (_, client):
        seen, summary = await turn(client, "@garbage @unknown")
    assert summary["outcome"] == "completed"
    assert [e for e in seen if e.type == "agent.unparsed"]


async def test_a_question_is_asked_and_answered(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@elicit"})
        seen = await events_until(client, "question.requested")
        await client.reply_question("ses_x", seen[-1].data["question_id"], {"name": "Ada"})
        seen = await events_until(client, "turn.ended")
    assert next(e for e in seen if e.type == "question.resolved").data["status"] == "answered"
    assert seen[-1].data["metadata"]["outcome"] == "completed"


async def test_mode_model_and_thought_level_change_and_are_read_back(tmp_path):
    async with session(tmp_path, model="mock-fast", agentMode="plan") as (_, client):
        snapshot = await client.snapshot("ses_x")
        assert (snapshot["model"], snapshot["agentMode"]) == ("mock-fast", "plan")
        snapshot = await client.configure("ses_x", {"model": "mock", "mode": "default", "thoughtLevel": "high"})
        assert (snapshot["model"], snapshot["agentMode"], snapshot["thoughtLevel"]) == ("mock", "default", "high")
        with pytest.raises(errors.UsageError, match="mock"):
            await client.configure("ses_x", {"model": "mocc"})


async def test_an_unknown_model_at_create_leaves_nothing_behind(tmp_path):
    async with supervisor(tmp_path, mock_recipe()) as running, running.client() as client:
        body = {"agent": "mock", "cwd": str(tmp_path), "model": "no-such"}
        with pytest.raises(errors.UsageError):
            await client.create_session("ses_x", body, timeout_s=20)
        with pytest.raises(errors.SessionNotFound):
            await client.snapshot("ses_x")
        assert marked(running.sandbox_id) == []


async def test_a_restart_resumes_the_native_session_and_knows_the_history(tmp_path):
    async with session(tmp_path) as (_, client):
        await turn(client, "the codeword is heron")
        snapshot = await client.snapshot("ses_x")
    fields = {"nativeSessionId": snapshot["nativeSessionId"], "minSequence": snapshot["eventCount"]}
    async with session(tmp_path, **fields) as (_, client):
        seen, summary = await turn(client, "@recall", offset=snapshot["eventCount"])
        whole = [e.sequence for e in await events_until(client, "turn.ended")] + [e.sequence for e in seen]
    assert summary["context"] == "restored"
    assert "heron" in json.dumps([e.data for e in seen if e.type == "item.completed"][-1])
    assert sorted(set(whole)) == list(range(1, max(whole) + 1))


async def test_a_load_does_not_double_the_history_in_the_log(tmp_path):
    async with session(tmp_path, "--no-resume") as (_, client):
        await turn(client, "the codeword is heron")
        snapshot = await client.snapshot("ses_x")
    async with session(tmp_path, "--no-resume", nativeSessionId=snapshot["nativeSessionId"]) as (_, client):
        seen, summary = await turn(client, "@recall", offset=snapshot["eventCount"])
    assert summary["context"] == "restored"
    users = [e for e in seen if e.type == "item.completed" and e.data["item"]["role"] == "user"]
    assert len(users) == 1


async def test_a_conversation_that_cannot_be_restored_is_an_error_unless_a_new_one_is_allowed(tmp_path):
    flags = ("--no-resume", "--no-load")
    with pytest.raises(errors.ContextLost):
        async with session(tmp_path / "a", *flags, nativeSessionId="gone"):
            pass
    async with session(tmp_path / "b", *flags, nativeSessionId="gone", onLost="new") as (_, client):
        seen, summary = await turn(client, "hello")
    assert summary["context"] == "lost"
    assert "session.context_lost" in [e.type for e in seen]


async def test_a_lost_conversation_can_be_replayed_from_the_log(tmp_path):
    flags = ("--no-resume", "--no-load")
    async with session(tmp_path, *flags) as (_, client):
        await turn(client, "the codeword is heron")
        snapshot = await client.snapshot("ses_x")
    native = snapshot["nativeSessionId"]
    async with session(tmp_path, *flags, nativeSessionId=native, onLost="replay") as (_, client):
        seen, summary = await turn(client, "@echo and now?", offset=snapshot["eventCount"])
    assert summary["context"] == "replayed"
    assert "codeword is heron" in json.dumps([e.data for e in seen if e.type == "item.completed"][-1])


async def test_what_an_agent_says_outside_a_turn_belongs_to_no_turn_and_is_completed(tmp_path):
    async with session(tmp_path) as (_, client):
        seen, _ = await turn(client, "@late=2")
        late = await events_until(client, "item.completed", seen[-1].sequence)
    assert {e.turn_id for e in late} == {None}


async def test_a_turn_that_an_earlier_supervisor_left_open_is_told_as_interrupted(tmp_path):
    async with session(tmp_path, interruptedTurnId="trn_old") as (_, client):
        seen = await events_until(client, "turn.ended")
    assert seen[-1].turn_id == "trn_old"
    assert seen[-1].data["metadata"]["outcome"] == "interrupted"


async def test_leaving_in_mid_turn_tells_interrupted_and_leaves_no_process(tmp_path):
    async with session(tmp_path) as (running, client):
        await client.send("ses_x", {"message": "@grandchild @hang"})
        seen = await events_until(client, "turn.started")
        pid = seen[0].data["metadata"]["pid"]
        agent = ProcessIdentity.of(pid)
        await client.shutdown()
        async with asyncio.timeout(30):
            await running.process.wait()
        assert agent is not None
        assert not agent.is_alive()
        last = (tmp_path / "log").glob("*.jsonl")
        text = b"".join(p.read_bytes() for p in sorted(last)).decode()
        assert '"outcome":"interrupted"' in text


async def test_an_idle_supervisor_leaves_by_itself(tmp_path):
    async with session(tmp_path, boot={"idle_timeout_s": 1}) as (running, client):
        seen = []
        async with asyncio.timeout(30):
            with contextlib.suppress(errors.SupervisorUnreachable):
                async for batch in client.stream("ses_x", 0):
                    seen += batch
            await running.process.wait()
    assert seen[-1].type == "sandbox.hibernated"


async def test_a_supervisor_without_a_session_shows_that_it_is_used_to_who_has_no_token(tmp_path, monkeypatch):
    log = tmp_path / "log"
    log.mkdir()
    os.utime(log, (1, 1))
    async with supervisor(tmp_path):
        await changed_from(log, 1)
    monkeypatch.setattr(supervisor_module, "SIGN_S", 0.0)
    boot = Boot(sandbox_id="sbx_x", token="t", listen={}, log_root=str(log), home="", tmp="")
    ours = supervisor_module.Supervisor(boot)
    ours._give_sign()
    os.utime(log, (2, 2))
    ours._give_sign()
    assert log.stat().st_mtime == 2, "nothing happened since"
    ours.touch()
    ours._give_sign()
    await changed_from(log, 2)


async def changed_from(directory, old):
    async with asyncio.timeout(20):
        while directory.stat().st_mtime == old:
            await asyncio.sleep(0.02)
    assert abs(directory.stat().st_mtime - time.time()) < 20


async def test_without_the_token_nothing_is_answered(tmp_path):
    async with session(tmp_path) as (running, _):
        async with running.client(token="wrong") as stranger:
            with pytest.raises(errors.AgentctlError, match="token"):
                await stranger.health()
        assert oct(os.stat(running.socket).st_mode & 0o777) == "0o600"


async def test_every_error_is_problem_json(tmp_path):
    async with session(tmp_path) as (_, client):
        for method, path, body, status in [
            ("GET", "/nowhere", None, 404),
            ("DELETE", "/v1/health", None, 405),
            ("POST", "/v1/sessions/ses_x/messages", b"{nonsense", 400),
            ("POST", "/v1/sessions/ses_x/messages", b"[1]", 400),
            ("GET", "/v1/sessions/nobody", None, 404),
            ("GET", "/v1/sessions/ses_x/events?offset=-1", None, 400),
        ]:
            response = await ask(client._connections, method, path, client.headers, body)
            assert response.status == status, path
            assert (b"content-type", b"application/problem+json") in response.headers
            assert json.loads(response.content)["type"].startswith("urn:sandbox-agent:error:")
        assert TOKEN.encode() not in response.content


async def test_a_stream_resumes_after_the_last_event_id(tmp_path):
    async with session(tmp_path) as (_, client):
        seen, _ = await turn(client, "hello")
        headers = [*client.headers, (b"last-event-id", b"5")]
        async with client.open("GET", "/v1/sessions/ses_x/events/sse", headers=headers) as response:
            first = await anext(aiter(response.aiter_stream()))
    assert first.startswith(b"id: 6\n")
    assert len(seen) > 6


async def test_messages_stream_ends_after_its_own_turn(tmp_path):
    async with session(tmp_path) as (_, client):
        async with asyncio.timeout(20):
            response = await ask(
                client._connections,
                "POST",
                "/v1/sessions/ses_x/messages/stream",
                client.headers,
                json.dumps({"message": "hello"}).encode(),
            )
    blocks = response.content.strip().split(b"\n\n")
    assert b'"type":"turn.ended"' in blocks[-1]


async def test_a_slow_reader_gets_every_one_of_fifty_thousand_updates(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@chunks=50000"})
        numbers = []
        async with asyncio.timeout(60):
            async for batch in client.stream("ses_x", 0):
                numbers += [e.sequence for e in batch]
                await asyncio.sleep(0.001)
                if batch[-1].type == "turn.ended":
                    break
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 50000


async def test_a_broken_agent_start_is_told_with_its_stderr(tmp_path):
    with pytest.raises(errors.AgentStartFailed) as caught:
        async with session(tmp_path, "--exit-at-start=3"):
            pass
    assert "mock" in caught.value.message


async def test_a_missing_agent_program_is_named(tmp_path):
    recipe = mock_recipe()
    broken = type(recipe)(name="mock", argv=("/no/such/agent",), permissions=recipe.permissions)
    with pytest.raises(errors.AgentStartFailed, match="/no/such/agent"):
        async with session(tmp_path, recipe=broken):
            pass


async def test_a_session_s_raw_frames_come_along_on_request(tmp_path):
    async with session(tmp_path) as (_, client):
        await turn(client, "hello")
        async for batch in client.stream("ses_x", 0, include_raw=True):
            assert any("raw" in e.body and e.body["raw"]["method"] == "session/update" for e in batch)
            break


async def test_a_terminated_supervisor_ends_even_when_its_agent_will_not(tmp_path):
    async with session(tmp_path, "--ignore-term", "--ignore-eof") as (running, client):
        agent = (await events_until(client, "session.started"))[0].data["metadata"]["pid"]
        identity = ProcessIdentity.of(agent)
        running.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await running.process.wait() == 0
    assert identity is not None
    assert not identity.is_alive()


async def test_the_agent_s_files_get_the_modes_that_the_user_s_umask_gives(tmp_path):
    async with session(tmp_path, permissions="allow") as (_, client):
        await turn(client, "@write=plain.txt")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "project/plain.txt").stat().st_mode & 0o777 == 0o666 & ~mask
    assert all(p.stat().st_mode & 0o077 == 0 for p in (tmp_path / "log").iterdir())


async def test_a_mode_in_which_the_agent_would_not_ask_is_refused_unless_everything_is_allowed(tmp_path):
    asks = PermissionSetup(mode="default")
    recipe = mock_recipe(permissions={"ask": asks, "deny": asks, "allow": PermissionSetup()})
    with pytest.raises(errors.UsageError, match="cannot be held to"):
        async with session(tmp_path / "a", recipe=recipe, permissions="deny", agentMode="plan"):
            pass
    async with session(tmp_path / "b", recipe=recipe, permissions="allow", agentMode="plan") as (_, client):
        assert (await client.snapshot("ses_x"))["agentMode"] == "plan"
    async with session(tmp_path / "c", recipe=recipe) as (_, client):
        with pytest.raises(errors.UsageError, match="cannot be held to"):
            await client.configure("ses_x", {"mode": "plan"})
    also = mock_recipe(permissions={"ask": PermissionSetup(mode="default", also=("plan",))})
    async with session(tmp_path / "d", recipe=also) as (_, client):
        assert (await client.configure("ses_x", {"mode": "plan"}))["agentMode"] == "plan"


async def test_streaming_an_ended_turn_again_gives_that_turn_and_ends(tmp_path):
    async with session(tmp_path) as (_, client):
        await turn(client, "hello", turnId="trn_once")
        async with asyncio.timeout(10):
            response = await ask(
                client._connections,
                "POST",
                "/v1/sessions/ses_x/messages/stream",
                client.headers,
                json.dumps({"message": "hello", "turnId": "trn_once"}).encode(),
            )
    blocks = response.content.strip().split(b"\n\n")
    assert b'"type":"turn.started"' in blocks[0]
    assert b'"type":"turn.ended"' in blocks[-1]


@pytest.mark.parametrize("policy", [{"allw": []}, {"allow": [{}]}, {"allow": "everything"}])
async def test_a_policy_of_the_wrong_shape_is_refused_at_create(tmp_path, policy):
    with pytest.raises(errors.UsageError):
        async with session(tmp_path, policy=policy):
            pass


async def test_sessions_of_one_sandbox_have_their_own_logs_and_one_can_leave_and_come_back(tmp_path):
    recipe = mock_recipe()
    body = {"agent": "mock", "cwd": str(tmp_path / "project"), "permissionMode": "allow"}
    async with supervisor(tmp_path, recipe) as running, running.client() as client:
        for name in ("ses_a", "ses_b"):
            await client.create_session(name, {**body, "logName": name}, timeout_s=20)
        assert sorted(path.name for path in (tmp_path / "log" / "sessions").iterdir()) == ["ses_a", "ses_b"]
        for _ in range(2):
            await client.release("ses_a")
        assert (await client.health())["sessions"] == 1
        again = await client.create_session("ses_a", {**body, "logName": "ses_a"}, timeout_s=20)
        told = [event.type for event in await client.events("ses_a", 0)]
        assert "sandbox.released" in told
        assert again["eventCount"] > told.index("sandbox.released")
        with pytest.raises(errors.UsageError):
            await client.create_session("ses_c", {**body, "logName": "../ses_c"}, timeout_s=20)


async def test_a_supervisor_leaves_when_its_time_is_over_whatever_runs(tmp_path):
    async with session(tmp_path, boot={"expires_at": time.time() + 2}) as (running, client):
        await client.send("ses_x", {"message": "@hang"})
        async with asyncio.timeout(30):
            await running.process.wait()
