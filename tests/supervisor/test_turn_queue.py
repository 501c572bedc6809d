"""Messages to a busy session: refused, queued in order, put first; taken out again; kept through every kind of end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import signal

import pytest

from agentctl import errors
from agentctl.supervisor.log.session_log import LogReader
from agentctl.supervisor.turn_queue import QUEUE_LIMIT
from tests.supervisor.support import Gate, ask
from tests.supervisor.test_session_api import events_until, session

QUEUE = {"whenBusy": "queue"}


async def queue(client, text, turn_id, **fields):
    return await client.send("ses_x", {"message": text, "turnId": turn_id, **QUEUE, **fields})


async def terminate(client):
    await client.request("POST", "/v1/sessions/ses_x/terminate", {})


async def events_until_end_of(client, turn_id, offset=0):
    seen = []
    async with asyncio.timeout(60):
        async for batch in client.stream("ses_x", offset):
            for event in batch:
                seen.append(event)
                if event.type == "turn.ended" and event.turn_id == turn_id:
                    return seen
    raise AssertionError(f"{turn_id} has not ended: {[e.type for e in seen]}")


def steps(seen):
    """``("queued"|"started"|"ended", turn id)`` in order."""
    return [(e.type.removeprefix("turn."), e.data["turn_id"]) for e in seen if e.type.startswith("turn.")]


def logged(root):
    reader, after, events = LogReader(root / "log"), 0, []
    while page := reader.read(after):
        after = page[-1].sequence
        events += [json.loads(record.line) for record in page]
    return events


def told(events, kind):
    return [e["data"]["turn_id"] for e in events if e["type"] == kind]


async def test_queued_messages_run_one_after_the_other_in_their_order(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_a"})
        b = await queue(client, "second", "trn_b")
        c = await queue(client, "third", "trn_c")
        snapshot = await client.snapshot("ses_x")
        await client.cancel("ses_x")
        seen = await events_until_end_of(client, "trn_c")
    assert (b["status"], b["position"], c["position"]) == ("queued", 1, 2)
    assert snapshot["queue"] == [{"turn_id": "trn_b", "text": "second"}, {"turn_id": "trn_c", "text": "third"}]
    order = [("started", "trn_a"), ("queued", "trn_b"), ("queued", "trn_c"), ("ended", "trn_a")]
    order += [("started", "trn_b"), ("ended", "trn_b"), ("started", "trn_c"), ("ended", "trn_c")]
    assert steps(seen) == order
    assert {e.turn_id for e in seen if e.type == "turn.queued"} == {None}
    assert [e.data["metadata"]["outcome"] for e in seen if e.type == "turn.ended"][1:] == ["completed", "completed"]


async def test_a_message_to_an_idle_session_is_not_queued(tmp_path):
    async with session(tmp_path) as (_, client):
        sent = await queue(client, "hello", "trn_a")
        seen = await events_until(client, "turn.ended")
    assert (sent["status"], sent["position"]) == ("running", 0)
    assert "turn.queued" not in [e.type for e in seen]


async def test_the_same_turn_id_again_tells_queued_running_and_ended(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_a"})
        await queue(client, "@hang", "trn_b")
        queued = await queue(client, "@hang", "trn_b")
        await client.cancel("ses_x")
        await events_until_end_of(client, "trn_a")
        async with asyncio.timeout(10):
            while (again := await queue(client, "@hang", "trn_b"))["status"] == "queued":
                pass
        await client.cancel("ses_x", turn_id="trn_b")
        await events_until_end_of(client, "trn_b")
        ended = await queue(client, "@hang", "trn_b")
        assert (await client.snapshot("ses_x"))["status"] == "idle"
    assert [queued["duplicate"], again["duplicate"], ended["duplicate"]] == [True] * 3
    assert [queued["status"], again["status"], ended["status"]] == ["queued", "running", "ended"]


async def test_an_interrupting_message_cancels_the_running_turn_and_runs_before_the_queued_ones(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_a"})
        await queue(client, "later", "trn_b")
        sent = await client.send("ses_x", {"message": "now", "turnId": "trn_c", "whenBusy": "interrupt"})
        seen = await events_until_end_of(client, "trn_b")
    assert (sent["status"], sent["position"]) == ("queued", 1)
    assert next(e for e in seen if e.type == "turn.ended").data["metadata"]["outcome"] == "cancelled"
    assert [s for s in steps(seen) if s[0] == "started"] == [("started", t) for t in ("trn_a", "trn_c", "trn_b")]


async def test_a_full_queue_refuses_further_messages(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@hang"})
        for number in range(QUEUE_LIMIT):
            await queue(client, "hello", f"trn_{number}")
        with pytest.raises(errors.QueueFull) as caught:
            await queue(client, "hello", "trn_more")
        assert caught.value.exit_code == 10
        await terminate(client)
    assert len(told(logged(tmp_path), "turn.queued")) == QUEUE_LIMIT


async def test_a_message_that_finds_the_disk_full_is_not_acknowledged(tmp_path):
    async with session(tmp_path, boot={"idle_timeout_s": 1}) as (running, client):
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_a"})
        await events_until(client, "turn.started")
        size = max(path.stat().st_size for path in (tmp_path / "log").glob("*.jsonl"))
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (size + 100, size + 100))
        with pytest.raises(errors.DiskFull):
            await queue(client, "hello", "trn_b")
        async with asyncio.timeout(30):
            await running.process.wait()  # nothing of a failed session keeps a sandbox alive
    assert told(logged(tmp_path), "turn.queued") == []


async def test_an_interrupting_message_does_not_wait_for_a_start_that_it_interrupts(tmp_path):
    gate = Gate(tmp_path)
    async with session(tmp_path, recipe=gate.recipe) as (_, client):
        gate.close()
        pid = (await events_until(client, "session.started"))[-1].data["metadata"]["pid"]
        os.kill(pid, signal.SIGKILL)
        await events_until(client, "sandbox.agent_exited")
        await client.send("ses_x", {"message": "@write!=effect", "turnId": "trn_a"})
        await client.send("ses_x", {"message": "now", "turnId": "trn_b", "whenBusy": "interrupt"})
        gate.open()
        seen = await events_until_end_of(client, "trn_b")
    assert [e.type for e in seen].count("sandbox.agent_started") == 1
    assert seen[-1].data["metadata"]["outcome"] == "completed"
    assert not (tmp_path / "project" / "effect").exists()


async def test_the_same_message_from_two_sides_at_once_is_queued_once(tmp_path):
    async with session(tmp_path) as (running, client), running.client() as other:
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_a"})
        sent = await asyncio.gather(*(queue(side, "hello", "trn_b") for side in (client, other)))
        await client.cancel("ses_x")
        seen = await events_until_end_of(client, "trn_b")
    assert sorted(s["duplicate"] for s in sent) == [False, True]
    assert steps(seen).count(("queued", "trn_b")) == 1


async def test_a_queued_turn_is_taken_out_by_its_id_and_ends_as_cancelled(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_a"})
        await queue(client, "@write!=effect", "trn_b")
        assert await client.cancel("ses_x", turn_id="trn_b") == {"turn_id": "trn_b", "cancelled": True}
        assert await client.cancel("ses_x", turn_id="trn_b") == {"turn_id": "trn_b", "cancelled": False}
        with pytest.raises(errors.TurnNotFound):
            await client.cancel("ses_x", turn_id="trn_nobody")
        seen = await events_until_end_of(client, "trn_b")
        assert (await client.snapshot("ses_x"))["turnId"] == "trn_a"
        await client.cancel("ses_x")
        await events_until_end_of(client, "trn_a")
    summary = seen[-1].data["metadata"]
    assert (summary["outcome"], summary["error"], summary["denied"]) == ("cancelled", None, [])
    assert not (tmp_path / "project" / "effect").exists()


async def test_what_a_turn_waited_in_line_is_part_of_its_time_where_that_is_limited_too(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_a"})
        for turn_id, limits in (("trn_b", {"timeoutS": 20, "inLineS": 20}), ("trn_c", {"timeoutS": 20})):
            await client.send("ses_x", {"message": "hello", "turnId": turn_id, **limits, **QUEUE})
        await client.send("ses_x", {"message": "hello", "turnId": "trn_d", "inLineS": 0.01, **QUEUE})
        over = (await events_until_end_of(client, "trn_d"))[-1].data["metadata"]
        await client.cancel("ses_x")
        seen = await events_until_end_of(client, "trn_c")
    assert (over["outcome"], over["error"]["code"]) == ("timeout", "timeout")
    limits = {e.data["turn_id"]: e.data["metadata"]["timeout_s"] for e in seen if e.type == "turn.started"}
    assert 0 < limits["trn_b"] < 20 == limits["trn_c"]


async def test_a_stream_of_a_queued_turn_has_that_turn_alone(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@chunks=5 @delay=0.05", "turnId": "trn_a"})
        async with asyncio.timeout(10):
            response = await ask(
                client._connections,
                "POST",
                "/v1/sessions/ses_x/messages/stream",
                client.headers,
                json.dumps({"message": "hello", "turnId": "trn_b", **QUEUE}).encode(),
            )
    blocks = response.content.strip().split(b"\n\n")
    assert b'"type":"turn.started"' in blocks[0]
    assert b'"type":"turn.ended"' in blocks[-1]
    assert not [b for b in blocks if b"trn_a" in b]


async def test_what_follows_an_answer_in_the_same_breath_belongs_to_no_turn_even_when_one_is_queued(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@delay=0.2 @chunks=2 @twice", "turnId": "trn_a"})
        await queue(client, "hello", "trn_b")
        seen = await events_until_end_of(client, "trn_b")
    ended = next(i for i, e in enumerate(seen) if e.type == "turn.ended")
    begun = next(i for i, e in enumerate(seen) if e.type == "turn.started" and e.turn_id == "trn_b")
    between = seen[ended + 1 : begun]
    assert [(e.type, e.turn_id, e.data["error"]) for e in between] == [("agent.unparsed", None, "unknown_id")]


async def test_each_queued_turn_fails_in_its_turn_when_the_agent_cannot_start(tmp_path):
    async with session(tmp_path, "--no-resume", "--no-load") as (_, client):
        pid = (await events_until(client, "session.started"))[-1].data["metadata"]["pid"]
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_a"})
        await queue(client, "hello", "trn_b")
        await queue(client, "hello", "trn_c")
        await events_until(client, "item.completed")
        os.kill(pid, signal.SIGKILL)
        seen = await events_until_end_of(client, "trn_c")
    summaries = {e.turn_id: e.data["metadata"] for e in seen if e.type == "turn.ended"}
    assert [summaries[t]["error"]["code"] for t in ("trn_b", "trn_c")] == ["context_lost"] * 2


async def test_an_acknowledged_message_survives_kill_9_and_runs_once_under_the_next_supervisor(tmp_path):
    async with session(tmp_path) as (running, client):
        await client.send("ses_x", {"message": "@hang @write!=begun", "turnId": "trn_a"})
        await queue(client, "one", "trn_b")
        await queue(client, "two", "trn_c")
        native = (await client.snapshot("ses_x"))["nativeSessionId"]
        running.process.kill()
        await running.process.wait()
    before = logged(tmp_path)
    queued = [e["data"]["message"] for e in before if e["type"] == "turn.queued"]
    fields = {"nativeSessionId": native, "interruptedTurnId": "trn_a", "queued": queued}
    async with session(tmp_path, **fields) as (_, client):
        seen = await events_until_end_of(client, "trn_c", before[-1]["sequence"])
    assert [e.type for e in seen].index("turn.ended") < [e.type for e in seen].index("sandbox.agent_started")
    assert steps(seen)[0] == ("ended", "trn_a")
    assert [s for s in steps(seen) if s[0] == "started"] == [("started", "trn_b"), ("started", "trn_c")]
    said = [e.data["item"] for e in seen if e.type == "item.completed" and e.data["item"]["role"] == "user"]
    assert [item["content"][0]["text"] for item in said] == ["one", "two"]


async def test_a_queued_turn_that_the_log_knows_as_begun_or_ended_does_not_run_again(tmp_path):
    async with session(tmp_path) as (running, client):
        await client.send("ses_x", {"message": "@write!=effect", "turnId": "trn_done"})
        await events_until_end_of(client, "trn_done")
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_begun"})
        running.process.kill()
        await running.process.wait()
    (tmp_path / "project" / "effect").unlink()
    stale = [
        {"message": "@write!=effect", "turnId": "trn_done"},
        {"message": "@write!=effect", "turnId": "trn_begun"},
        {"message": "hello", "turnId": "trn_new"},
    ]
    async with session(tmp_path, queued=stale) as (_, client):
        seen = await events_until_end_of(client, "trn_new")
        again = await client.send("ses_x", stale[0])
    outcomes = [(e.turn_id, e.data["metadata"]["outcome"]) for e in seen if e.type == "turn.ended"]
    assert outcomes == [("trn_done", "completed"), ("trn_begun", "interrupted"), ("trn_new", "completed")]
    assert (again["status"], again["duplicate"]) == ("ended", True)
    assert not (tmp_path / "project" / "effect").exists()


async def test_a_release_leaves_queued_turns_queued_and_cuts_off_the_running_one(tmp_path):
    async with session(tmp_path) as (running, client):
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_a"})
        await queue(client, "hello", "trn_b")
        await client.shutdown()
        async with asyncio.timeout(30):
            await running.process.wait()
    events = logged(tmp_path)
    assert told(events, "turn.ended") == ["trn_a"]
    assert told(events, "turn.started") == ["trn_a"]
    assert events[-1]["type"] == "sandbox.released"


async def test_a_terminated_session_ends_its_queued_turns_as_cancelled(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@hang", "turnId": "trn_a"})
        await queue(client, "hello", "trn_b")
        await terminate(client)
    ends = [e for e in logged(tmp_path) if e["type"] == "turn.ended"]
    outcomes = {e["turn_id"]: e["data"]["metadata"]["outcome"] for e in ends}
    assert outcomes == {"trn_a": "interrupted", "trn_b": "cancelled"}


async def test_a_start_that_fails_leaves_restored_turns_queued(tmp_path):
    flags = ("--exit-at-start=3",)
    with pytest.raises(errors.AgentStartFailed):
        async with session(tmp_path, *flags, queued=[{"message": "hello", "turnId": "trn_a"}]):
            pass
    assert told(logged(tmp_path), "turn.ended") == []


async def test_a_session_with_queued_turns_is_busy_from_its_start_and_never_idle_however_long_its_agent_is_silent(
    tmp_path,
):
    queued = [{"message": words, "turnId": f"trn_{n}"} for n, words in enumerate(("hello", "@sleep=1.6"))]
    async with session(tmp_path, queued=queued, boot={"idle_timeout_s": 1}) as (_, client):
        with pytest.raises(errors.SessionBusy):
            await client.send("ses_x", {"message": "hello"})
        seen = await events_until_end_of(client, "trn_1")
    assert seen[-1].data["metadata"]["outcome"] == "completed"


WRONG_WORDS = [{"whenBusy": "perhaps"}, {"stallTimeoutS": -1}, {"stallTimeoutS": True}]


async def test_a_word_for_a_busy_session_or_a_stall_that_is_none_is_refused(tmp_path):
    async with session(tmp_path) as (_, client):
        for fields in WRONG_WORDS:
            with pytest.raises(errors.UsageError):
                await client.send("ses_x", {"message": "hello", **fields})


@pytest.mark.parametrize("fields", [{"stallTimeoutS": 0}, {"startTimeoutS": -2}, {"queued": [{"message": ""}]}])
async def test_a_request_of_the_wrong_shape_opens_no_session(tmp_path, fields):
    with pytest.raises(errors.UsageError):
        async with session(tmp_path, **fields):
            pass


def left_over(events):
    """What a host tells the next supervisor: the turn that was cut off, and the messages that were never begun."""
    ended, started = told(events, "turn.ended"), told(events, "turn.started")
    queued = {e["data"]["turn_id"]: e["data"]["message"] for e in events if e["type"] == "turn.queued"}
    cut = [turn_id for turn_id in started if turn_id not in ended]
    over = {*ended, *started}
    native = [e["native_session_id"] for e in events if e["native_session_id"]]
    fields = {
        "queued": [message for turn_id, message in queued.items() if turn_id not in over],
        "interruptedTurnId": cut[-1] if cut else None,
        "nativeSessionId": native[-1] if native else None,
    }
    return {key: value for key, value in fields.items() if value}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_every_acknowledged_message_runs_once_however_often_its_supervisor_is_killed(tmp_path, seed):
    chance = random.Random(seed)
    acknowledged, numbers = [], iter(range(1000))
    for _ in range(6):
        events = logged(tmp_path)
        async with session(tmp_path, **left_over(events), minSequence=len(events)) as (running, client):
            with contextlib.suppress(errors.SupervisorUnreachable, errors.SessionNotFound):
                for sent in range(5):
                    if sent == 2:
                        killing = asyncio.create_task(kill_after(running, chance.uniform(0, 0.3)))
                    turn_id = f"trn_{next(numbers)}"
                    await queue(client, f"@chunks=3 @delay={chance.choice([0, 0.02])}", turn_id)
                    acknowledged.append(turn_id)
            await killing
    events = logged(tmp_path)
    async with session(tmp_path, **left_over(events), minSequence=len(events)) as (_, client):
        async with asyncio.timeout(30):
            while (snapshot := await client.snapshot("ses_x"))["queue"] or snapshot["status"] != "idle":
                await asyncio.sleep(0.02)
    events = logged(tmp_path)
    assert [e["sequence"] for e in events] == list(range(1, len(events) + 1))
    started, ended = told(events, "turn.started"), told(events, "turn.ended")
    assert len(set(started)) == len(started)
    assert started == ended
    assert set(acknowledged) <= set(started)
    assert len(acknowledged) > 6


async def kill_after(running, seconds):
    await asyncio.sleep(seconds)
    running.process.kill()
    await running.process.wait()
