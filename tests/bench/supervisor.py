"""The supervisor by itself: how soon it is there, how much memory it keeps, and whether a flood comes through whole."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from agentctl import ids
from agentctl.agents.recipes import command_recipe
from agentctl.paths import StatePaths
from agentctl.providers.base import SandboxSpec
from agentctl.providers.unix_local import UnixLocalProvider
from agentctl.supervisor_client import SupervisorClient
from agentctl.wire import Boot
from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.workshop import Workshop

READY_GOAL_MS = 200.0
RSS_GOAL_MB = 25.0
BURST = 50_000
SLOW_READ_BYTES = 64 * 1024
SLOW_PAUSE_S = 0.005


def rows(shop: Workshop) -> Iterator[Row]:
    [ready] = interleave([lambda: asyncio.run(_ready_ms(shop))], shop.runs)
    yield compared("supervisor: spawn to ready", ready, None, goal=READY_GOAL_MS)
    idle, in_session = asyncio.run(_resident_mb(shop))
    yield compared("supervisor: resident when idle", [idle], None, unit="MB", goal=RSS_GOAL_MB)
    yield compared("supervisor: resident with a session open", [in_session], None, unit="MB", goal=RSS_GOAL_MB)
    yield compared(f"burst of {BURST:,}: events a slow reader misses", [_missing(shop)], None, unit="events", goal=0)


async def _ready_ms(shop: Workshop) -> float:
    started = time.perf_counter()
    async with local_sandbox(shop):
        return (time.perf_counter() - started) * 1000


async def _resident_mb(shop: Workshop) -> tuple[float, float]:
    """Before and after a session was opened and had a turn of 2,000 updates."""
    async with local_sandbox(shop) as (provider, handle):
        before = _rss_mb(handle["pid"])
        endpoint, token = await provider.endpoint(handle)
        async with SupervisorClient(endpoint, token) as client:
            await client.create_session("ses_bench", {"agent": "stub", "cwd": str(shop.directory)}, timeout_s=30)
            await client.send("ses_bench", {"message": "@chunks=2000", "turnId": "trn_bench"})
            async for batch in client.stream("ses_bench", 0):
                if any(event.type == "turn.ended" for event in batch):
                    break
        return before, _rss_mb(handle["pid"])


@asynccontextmanager
async def local_sandbox(shop: Workshop):
    """A local sandbox that knows the stub; removed at the end."""
    provider = UnixLocalProvider(StatePaths(shop.state).ensure())
    volume = await provider.volume_create("bench")
    sandbox_id = ids.new_id("sbx")
    boot = Boot(
        sandbox_id=sandbox_id,
        token=ids.new_id("tok"),
        listen={},
        log_root="",
        home="",
        tmp="",
        agent_env={},
        recipes={"stub": command_recipe(tuple(shop.stub.split()))},
        secrets=(),
        idle_timeout_s=60,
        fencing=1,
    )
    place = f"agents/{sandbox_id}"
    handle = await provider.create(
        SandboxSpec(
            sandbox_id=sandbox_id, session_id=None, volume=volume, home=f"{place}/home", log=f"{place}/log", boot=boot
        )
    )
    try:
        yield provider, handle
    finally:
        await provider.remove(handle)
        await provider.session_remove(volume, sandbox_id)


def _rss_mb(pid: int) -> float:
    """Resident memory of a process that has nothing to do."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS")) / 1024
    return int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])) / 1024


def _missing(shop: Workshop) -> float:
    """How many of a burst's updates a reader does not get that takes 64 KiB at a time and rests in between."""
    argv = shop.agentctl("run", "--agent-command", shop.stub, "--json", f"@chunks={BURST} @batch")
    with shop.piped(argv) as process:
        assert process.stdout is not None
        data = bytearray()
        while part := os.read(process.stdout.fileno(), SLOW_READ_BYTES):
            data += part
            time.sleep(SLOW_PAUSE_S)
    *events, result = (json.loads(line) for line in data.splitlines())
    assert result["outcome"] == "completed", result
    numbers = [event["sequence"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "events out of order"
    return BURST - sum(event["type"] == "item.delta" for event in events)
