"""What an agent can do wrong, and what its turn comes to: always a defined outcome, in bounded time.

After each fault the next message to the same session works, the log is whole, and no process is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import NamedTuple

import pytest

from agentctl import errors
from agentctl.supervisor.processes import marked
from tests.supervisor.support import mock_recipe, supervisor
from tests.supervisor.test_session_api import events_until, session
from tests.supervisor.test_turn_queue import logged
from tests.supervisor.test_unfinished import unended

MIB = 1024 * 1024
STALL = {"stallTimeoutS": 0.4}


class Fault(NamedTuple):
    """What the prompt makes the agent do, and what of it is seen. ``recipe`` has the grace times of one that has to be
    killed."""

    name: str
    prompt: str
    outcome: str
    code: str | None = None
    context: str = "live"
    fields: dict = {}  # noqa: RUF012 — never changed
    recipe: dict = {}  # noqa: RUF012 — never changed
    cancel: bool = False


IMPATIENT = {"cancel_grace_s": 0.2, "stop_grace_s": 0.2}
KILLED = {"context": "restored", "recipe": IMPATIENT}
CRASHED = {"outcome": "failed", "code": "agent_process_exited", "context": "restored"}
WITHIN_S = 30
"""No fault takes a second without load."""
STALLED = {"outcome": "timeout", "code": "stalled", "fields": STALL}

FAULTS = [
    Fault("it never answers the prompt", "@no-answer", **STALLED, **KILLED),
    Fault("it answers with an id that nobody asked for", "@wrong-id", **STALLED, **KILLED),
    Fault("it is stopped", "@freeze", **STALLED, **KILLED),
    Fault("it falls silent, and obeys the cancel", "@say=half @hang", **STALLED),
    Fault("it answers cancel with an error", "@hang @cancel-error", "cancelled", cancel=True),
    Fault("it answers cancel with nonsense", "@hang @cancel-stop=banana", "cancelled", cancel=True),
    Fault("it does not answer cancel", "@hang @ignore-cancel @ignore-term", "cancelled", cancel=True, **KILLED),
    Fault("it dies before it has said anything", "@crash", **CRASHED),
    Fault("it dies in the middle of its answer", "@open-tool @crash=3", **CRASHED),
    Fault("it dies in the middle of a line", "@half-line", **CRASHED),
    Fault("it dies and leaves a child that holds its pipes", "@grandchild @crash", **CRASHED),
    Fault("it exits and leaves a child that holds its pipes", "@grandchild @exit=0", **CRASHED),
    Fault("it closes stdout and lives on", "@close-stdout", **CRASHED),
    Fault("it floods stderr", "@stderr=400000", "completed"),
    Fault("it writes lines that are no frames", "@garbage @garbage=utf8 @garbage=array @garbage=number", "completed"),
    Fault("it answers twice", "@twice", "completed"),
    Fault("it says a line of 16 MiB", f"@bigline={16 * MIB}", "completed"),
    Fault("it says a line that is too long", f"@bigline={65 * MIB}", "completed"),
]


def summary_of(seen):
    return seen[-1].data["metadata"]


async def assert_it_works_again_and_ends_well(root, running, client, context):
    """``context`` is how the agent of the next turn comes by its conversation."""
    offset = (await client.snapshot("ses_x"))["eventCount"]
    await client.send("ses_x", {"message": "hello again"})
    summary = summary_of(await events_until(client, "turn.ended", offset))
    assert (summary["outcome"], summary["context"]) == ("completed", context)
    await client.shutdown()
    async with asyncio.timeout(WITHIN_S):
        await running.process.wait()
    assert marked(running.sandbox_id) == []
    events = logged(root)
    assert [e["sequence"] for e in events] == list(range(1, len(events) + 1))
    assert unended(events) == set()
    turns = {kind: [e["turn_id"] for e in events if e["type"] == f"turn.{kind}"] for kind in ("started", "ended")}
    assert turns["started"] == turns["ended"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_fault_in_a_turn_ends_it_with_a_defined_outcome_and_harms_no_other(tmp_path, fault):
    async with session(tmp_path, recipe=mock_recipe(**fault.recipe)) as (running, client):
        async with asyncio.timeout(WITHIN_S):
            await client.send("ses_x", {"message": fault.prompt, **fault.fields})
            if fault.cancel:
                await client.cancel("ses_x")
            seen = await events_until(client, "turn.ended")
        summary = summary_of(seen)
        assert summary["outcome"] == fault.outcome
        assert (summary["error"] or {}).get("code") == fault.code
        assert ("turn.stalled" in [e.type for e in seen]) == (fault.code == "stalled")
        await assert_it_works_again_and_ends_well(tmp_path, running, client, fault.context)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--first-never-respond"], errors.DeadlineExceeded),
        (["--first-new-delay=60"], errors.DeadlineExceeded),
        (["--first-exit-at-start=3"], errors.AgentStartFailed),
        (["--first-exit-at-start=3", "--first-hold-pipes"], errors.AgentStartFailed),
        (["--first-protocol=9"], errors.ProtocolError),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value.__name__,
)
async def test_a_fault_at_the_start_is_told_in_time_and_the_next_start_works(tmp_path, flags, error):
    body = {"agent": "mock", "cwd": str(tmp_path / "project"), "startTimeoutS": WITHIN_S}
    soon = {"startTimeoutS": 0.5} if error is errors.DeadlineExceeded else {}
    async with supervisor(tmp_path, mock_recipe(*flags)) as running, running.client() as client:
        with pytest.raises(error):
            await client.create_session("ses_x", {**body, **soon}, timeout_s=WITHIN_S)
        assert marked(running.sandbox_id) == []
        await client.create_session("ses_x", body, timeout_s=WITHIN_S)
        await assert_it_works_again_and_ends_well(tmp_path, running, client, "new")


@pytest.mark.slow
async def test_a_stalled_turn_is_told_while_it_is_ended_and_the_agent_is_there_again_before_anybody_asks(tmp_path):
    async with session(tmp_path, recipe=mock_recipe(**IMPATIENT), **STALL) as (_, client):
        await client.send("ses_x", {"message": "@freeze"})
        seen = await events_until(client, "turn.stalled")
        assert seen[-1].data["silent_s"] >= 0.4
        assert (await client.snapshot("ses_x"))["status"] == "stalled"
        seen = await events_until(client, "sandbox.agent_started", seen[-1].sequence)
        assert [e.type for e in seen if e.type.startswith(("turn.", "sandbox."))] == [
            "sandbox.agent_exited",
            "turn.ended",
            "sandbox.agent_started",
        ]
        async with asyncio.timeout(WITHIN_S):
            while (await client.snapshot("ses_x"))["status"] != "idle":
                await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_an_agent_that_is_stopped_between_turns_stalls_over_a_prompt_larger_than_its_pipe(tmp_path):
    async with session(tmp_path, recipe=mock_recipe(**IMPATIENT)) as (running, client):
        pid = (await events_until(client, "session.started"))[-1].data["metadata"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        await client.send("ses_x", {"message": "x" * MIB, **STALL})
        async with asyncio.timeout(WITHIN_S):
            seen = await events_until(client, "turn.ended")
        assert summary_of(seen)["error"]["code"] == "stalled"
        await assert_it_works_again_and_ends_well(tmp_path, running, client, "restored")


async def test_all_that_an_agent_said_before_it_died_is_in_the_log_though_a_child_holds_its_pipe(tmp_path):
    async with session(tmp_path) as (_, client):
        await client.send("ses_x", {"message": "@grandchild @chunks=30000 @size=500 @exit=0"})
        seen = await events_until(client, "turn.ended")
    deltas = [e.data["delta"] for e in seen if e.type == "item.delta"]
    assert deltas[-1].startswith("029999 ")


async def test_an_agent_that_waits_for_a_person_is_not_stalled_and_is_watched_again_after_the_answer(tmp_path):
    async with session(tmp_path, stallTimeoutS=1) as (_, client):
        await client.send("ses_x", {"message": "@permission @hang"})
        seen = await events_until(client, "permission.requested")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await events_until(client, "turn.stalled", seen[-1].sequence)
        await client.reply_permission("ses_x", seen[-1].data["permission_id"], {"reply": "once"})
        answered = time.monotonic()
        seen = await events_until(client, "turn.ended", seen[-1].sequence)
    assert time.monotonic() - answered >= 0.9
    assert summary_of(seen)["error"]["code"] == "stalled"


async def test_an_agent_that_goes_on_talking_is_never_stalled(tmp_path):
    async with session(tmp_path, stallTimeoutS=1.5) as (_, client):
        await client.send("ses_x", {"message": "@chunks=11 @delay=0.2"})
        assert summary_of(await events_until(client, "turn.ended"))["outcome"] == "completed"


async def test_a_message_may_forbid_the_watch_that_its_session_has(tmp_path):
    async with session(tmp_path, stallTimeoutS=0.2) as (_, client):
        await client.send("ses_x", {"message": "@sleep=0.6", "stallTimeoutS": 0})
        assert summary_of(await events_until(client, "turn.ended"))["outcome"] == "completed"
