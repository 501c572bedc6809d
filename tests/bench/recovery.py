"""A killed supervisor: how long until the next turn's first event, with and without the agent's own start."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from agentctl.model import SessionSpec
from agentctl.ops import sessions, turns
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from agentctl.supervisor.processes import ProcessIdentity
from tests.bench.report import Row
from tests.bench.samples import figure
from tests.bench.workshop import Workshop

GOAL_MS = 500.0
INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}\n'


def rows(shop: Workshop) -> Iterator[Row]:
    times = asyncio.run(_recoveries(shop))
    agent_ms = min(_agent_ms(shop) for _ in range(shop.runs))
    yield Row(
        name="supervisor killed to the next turn's first event, without the agent's start",
        unit="ms",
        ours=figure([t - agent_ms for t in times]),
        goal=GOAL_MS,
    )


async def _recoveries(shop: Workshop) -> list[float]:
    with App(StatePaths(shop.state), shop.env) as app:
        session = await sessions.create(app, SessionSpec(agent="mock", cwd=str(shop.directory)))
        try:
            return [await _recovery_ms(app, session.id) for _ in range(shop.runs)]
        finally:
            await sessions.delete(app, session.id)


async def _recovery_ms(app: App, session_id: str) -> float:
    await _kill(app, session_id)
    begun = time.perf_counter()
    first = 0.0
    async with turns.open_turn(app, session_id, turns.Message(text="hello")) as turn:
        async for _ in turn:
            first = first or time.perf_counter()
    return (first - begun) * 1000


async def _kill(app: App, session_id: str) -> None:
    sandbox = app.store.sandbox(app.store.session(session_id).sandbox_id or "")
    assert sandbox is not None
    supervisor = ProcessIdentity.of(sandbox.handle["pid"])
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    while supervisor.is_alive():
        await asyncio.sleep(0.001)


def _agent_ms(shop: Workshop) -> float:
    """From the agent's start to its answer to initialize."""
    begun = time.perf_counter()
    agent = subprocess.Popen(
        shop.stub, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=shop.env, cwd=Path(shop.directory)
    )
    assert agent.stdin is not None
    assert agent.stdout is not None
    agent.stdin.write(INITIALIZE)
    agent.stdin.flush()
    agent.stdout.readline()
    took = time.perf_counter() - begun
    agent.communicate()
    return took * 1000
