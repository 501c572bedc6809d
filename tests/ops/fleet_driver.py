"""One of the processes that drive a fleet: ``python -m tests.ops.fleet_driver PLAN REPORT``, as often as it takes.

A plan (JSON) is a list of steps, each ``[verb, name, …]``; what was done is told in REPORT, a line a step, when it is
certain. Steps that are told there already are not done again. Like a careful script it does a step again when it
failed, with the same names and ids.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

from agentctl import errors
from agentctl.model import SessionSpec
from agentctl.ops import sandbox_up, sandboxes, session_end, sessions, turns
from agentctl.ops.app import App
from agentctl.ops.report import silent
from tests.ops.fleet import LIGHT

AT_ONCE = 12
ATTEMPTS = 12
STEP_S = 120.0
BARE = SessionSpec(agent="mock", cwd="", provider="daytona", image=f"snapshot:{LIGHT}", idle_timeout_s=None)
TALKING = SessionSpec(agent="mock", cwd="", provider="daytona", idle_timeout_s=None)


async def ensure(app, name):
    """A sandbox of that name that is up."""
    made = await sandboxes.create(app, BARE, name=name)
    async with sandbox_up.up(app, app.store.named_sandbox(made.sandbox.id), silent) as client:
        assert (await client.health())["status"] == "ok"


async def delete(app, name):
    with suppress(errors.SandboxNotFound):
        await sandboxes.delete(app, name)


async def turn(app, name, turn_id):
    """A message of the session, which is made when it is missing: how it ended."""
    with suppress(errors.SessionExists):  # the other driver was faster
        await sessions.create(app, TALKING, name=name, if_not_exists=True, provision=False)
    async with turns.open_turn(app, name, turns.Message(text=f"@say={turn_id}", turn_id=turn_id)) as said:
        async for _ in said:
            pass
    assert (said.result.outcome, said.result.text) == ("completed", turn_id), said.result


async def forget(app, name):
    with suppress(errors.SessionNotFound):
        await session_end.delete(app, name)


VERBS = {"ensure": ensure, "delete": delete, "turn": turn, "forget": forget}


async def drive(app, steps, report):
    done = {tuple(json.loads(line)) for line in report.read_text().splitlines()} if report.exists() else set()
    slots, tails = asyncio.Semaphore(AT_ONCE), {}

    async def one(step, before):
        if before is not None:
            await before  # the steps of one name in their order
        async with slots:
            await _until_done(app, step)
        with report.open("a") as file:
            file.write(json.dumps(step) + "\n")

    async with asyncio.TaskGroup() as group:
        for step in steps:
            if tuple(step) not in done:
                tails[step[1]] = group.create_task(one(step, tails.get(step[1])))


async def _until_done(app, step):
    verb, *words = step
    for attempt in range(ATTEMPTS):
        try:
            async with asyncio.timeout(STEP_S):
                await VERBS[verb](app, *words)
                return
        except errors.AgentctlError as e:
            print(f"{step}: {type(e).__name__}: {e.message}", file=sys.stderr, flush=True)
            if attempt == ATTEMPTS - 1:
                raise
        await asyncio.sleep(0.1 * attempt)


def main():
    plan, report = (Path(argument) for argument in sys.argv[1:])
    with App.open(os.environ) as app:
        asyncio.run(drive(app, json.loads(plan.read_text()), report))


if __name__ == "__main__":
    main()
