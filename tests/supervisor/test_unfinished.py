"""What a cut-off turn leaves: its open items are completed as far as they were seen, its requests lapse."""

from __future__ import annotations

import asyncio

import pytest

from agentctl.events import Draft, item, text_of
from agentctl.supervisor.log.session_log import SessionLog
from agentctl.supervisor.unfinished import look_back
from tests.supervisor.test_session_api import events_until, session
from tests.supervisor.test_turn_queue import logged

ENDINGS = ("kill -9", "release", "SIGTERM")


def completed(events):
    return [e["data"]["item"] for e in events if e["type"] == "item.completed"]


def unended(events):
    started = {e["data"]["item"]["item_id"] for e in events if e["type"] == "item.started"}
    return started - {i["item_id"] for i in completed(events)}


async def end(how, running, client):
    if how == "kill -9":
        running.process.kill()
    elif how == "SIGTERM":
        running.process.terminate()
    else:
        await client.shutdown()
    async with asyncio.timeout(30):
        await running.process.wait()


@pytest.mark.parametrize("how", ENDINGS)
async def test_items_that_were_open_when_the_supervisor_ended_are_completed_with_what_was_seen(tmp_path, how):
    async with session(tmp_path) as (running, client):
        await client.send("ses_x", {"message": "@tool @open-tool @say=half @hang", "turnId": "trn_a"})
        await events_until(client, "item.delta")
        await end(how, running, client)
    async with session(tmp_path, interruptedTurnId="trn_a"):
        pass
    events = logged(tmp_path)
    assert unended(events) == set()
    ends = [e for e in events if e["type"] == "turn.ended"]
    assert [(e["turn_id"], e["data"]["metadata"]["outcome"]) for e in ends] == [("trn_a", "interrupted")]
    of_turn = completed(events[: events.index(ends[0])])
    assert [text_of(i) for i in of_turn if i["role"] == "assistant" and i["kind"] == "message"] == ["half"]
    assert [i["status"] for i in of_turn if i["kind"] == "tool_call"] == ["completed", "failed"]
    assert [e["sequence"] for e in events] == list(range(1, len(events) + 1))


async def test_a_request_that_died_with_its_supervisor_is_resolved_by_nobody(tmp_path):
    async with session(tmp_path) as (running, client):
        await client.send("ses_x", {"message": "@permission", "turnId": "trn_a"})
        asked = (await events_until(client, "permission.requested"))[-1].data["permission_id"]
        await end("kill -9", running, client)
    async with session(tmp_path, interruptedTurnId="trn_a"):
        pass
    resolved = [e for e in logged(tmp_path) if e["type"] == "permission.resolved"]
    assert [(e["data"]["permission_id"], e["data"]["metadata"]) for e in resolved] == [(asked, {"by": "agent"})]


def test_a_long_log_is_read_back_only_as_far_as_the_turn_goes(tmp_path, monkeypatch):
    said = Draft("item.delta", {"item_id": "itm_1", "delta": "x" * 100})
    with SessionLog(tmp_path, "ses_x") as log:
        for turn_id in ("trn_old", "trn_cut"):
            log.append([Draft("turn.started", {"turn_id": turn_id}, "daemon")], turn_id=turn_id)
            log.append([Draft("item.started", {"item": item("itm_1", "message", role="assistant")})], turn_id=turn_id)
            log.append([said] * 20_000, turn_id=turn_id)
        read = []
        monkeypatch.setattr(log, "read", lambda after, page=log.read: read.append(after) or page(after))
        past = look_back(log, {"trn_cut"})
    assert min(read) > 1
    assert set(past.cut) == {"trn_cut"}
    (end,) = past.cut["trn_cut"].ends()
    assert end.data["item"]["status"] == "failed"
    assert len(text_of(end.data["item"])) == 20_000 * 100


def test_a_turn_that_the_log_does_not_know_is_neither_cut_nor_ended(tmp_path):
    with SessionLog(tmp_path, "ses_x") as log:
        past = look_back(log, {"trn_a"})
    assert (past.cut, past.ended) == ({}, set())


async def test_an_interrupted_turn_is_told_once_however_often_it_is_named(tmp_path):
    for _ in range(2):
        async with session(tmp_path, interruptedTurnId="trn_a") as (_, client):
            assert (await client.snapshot("ses_x"))["status"] == "idle"
    assert len([e for e in logged(tmp_path) if e["type"] == "turn.ended"]) == 1


async def test_late_updates_of_a_tool_belong_to_no_turn(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@late-tool @late-delay=0.1"})
        seen = await events_until(client, "turn.ended")
        late = await events_until(client, "item.updated", seen[-1].sequence)
    assert {e.turn_id for e in late} == {None}
    assert late[-1].data["item"]["status"] == "completed"


async def test_an_agent_that_goes_on_talking_keeps_its_sandbox_alive(tmp_path):
    async with session(tmp_path, boot={"idle_timeout_s": 1.5}) as (running, client):
        await client.send("ses_x", {"message": "@late=4 @late-every=0.5"})
        seen = await events_until(client, "sandbox.hibernated")
        async with asyncio.timeout(30):
            await running.process.wait()
    late = [e for e in seen if e.type == "item.delta" and e.data["delta"].startswith("late")]
    assert len(late) == 4
    assert {e.turn_id for e in late} == {None}


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("fs/read_text_file", {"error": -32601}),
        ("session/request_permission", {"outcome": {"outcome": "cancelled"}}),
        ("elicitation/create", {"action": "cancel"}),
    ],
)
async def test_a_request_before_the_answer_to_initialize_is_answered(tmp_path, method, answer):
    async with session(tmp_path, f"--early-request={method}", startTimeoutS=10) as (_, client):
        seen = await events_until(client, "session.started")
    early = seen[-1].data["metadata"]["agentInfo"]["_meta"]["earlyAnswer"]
    assert (answer == early) if "error" not in answer else (early["error"]["code"] == answer["error"])
