"""Commands in a sandbox: how long the shortest one takes there and back, and how fast a log is followed, whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from agentctl.supervisor_client import SupervisorClient
from agentctl.supervisor_client.processes import Output, Processes
from tests.bench.report import Row, compared
from tests.bench.supervisor import local_sandbox
from tests.bench.workshop import Workshop

RUN_GOAL_MS = 15.0
LINES = 1_000_000
FOLLOW_GOAL_MS = LINES / 100_000 * 1000
"""100,000 lines a second."""


def rows(shop: Workshop) -> Iterator[Row]:
    run, create, follow, missing = asyncio.run(_measured(shop))
    yield compared("exec: POST run of true, there and back", run, None, goal=RUN_GOAL_MS)
    yield compared("exec: started, followed and ended", create, None, goal=RUN_GOAL_MS)
    yield compared(f"logs: {LINES:,} lines followed", follow, None, goal=FOLLOW_GOAL_MS)
    yield compared(f"logs: of {LINES:,} lines lost", missing, None, unit="lines", goal=0)


async def _measured(shop: Workshop) -> tuple[list[float], list[float], list[float], list[float]]:
    async with local_sandbox(shop) as (provider, handle):
        endpoint, token = await provider.endpoint(handle)
        async with SupervisorClient(endpoint, token) as client:
            processes = Processes(client)
            for _ in range(3):
                await processes.run({"command": "true"})
            run = [await _run_ms(processes) for _ in range(shop.runs * 5)]
            create = [await _create_ms(processes) for _ in range(shop.runs * 5)]
            follows = [await _follow_ms(processes) for _ in range(shop.runs)]
    return run, create, [took for took, _ in follows], [missing for _, missing in follows]


async def _run_ms(processes: Processes) -> float:
    started = time.perf_counter()
    answer = await processes.run({"command": "true"})
    assert answer["exitCode"] == 0
    return (time.perf_counter() - started) * 1000


async def _create_ms(processes: Processes) -> float:
    started = time.perf_counter()
    info = await processes.create({"command": "true", "attach": True})
    async for _ in processes.follow(info["id"], attach=True):
        pass
    return (time.perf_counter() - started) * 1000


async def _follow_ms(processes: Processes) -> tuple[float, float]:
    """From the start of a process that writes as fast as it can to its last line here; and how many are missing."""
    started = time.perf_counter()
    info = await processes.create({"command": "seq", "args": ["1", str(LINES)]})
    seen = bytearray()
    async for batch in processes.follow(info["id"]):
        for told in batch:
            assert isinstance(told, Output), told
            seen += told.data
    took = (time.perf_counter() - started) * 1000
    lines = seen.split()
    assert int(lines[-1]) == LINES
    return took, float(LINES - len(lines))
