"""A message to a session that lives: the command's time, how long it lingers after the turn's end, an update's cost.

Our turn ends where the log says so, by its ``turn.ended``; acpx keeps no such time, so its turn ends, kindly, when the
answer is on its stdout.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from datetime import datetime

from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.workshop import Workshop

SESSION = "bench"
TAIL_GOAL_MS = 50.0
CPU_GOAL_MS = 3.0
TIMES_ACPX = 0.5
FEW = 3


def rows(shop: Workshop) -> Iterator[Row]:
    shop.run(shop.agentctl("sessions", "create", SESSION, "--agent-command", shop.stub))
    if shop.acpx:
        shop.run(shop.acpx_agent("sessions", "new", "--name", SESSION))
    try:
        yield _whole(shop, FEW)
        for updates in (FEW, 2_000):
            yield _tail(shop, updates)
        for updates in (2_000, 20_000):
            yield _cpu(shop, updates)
    finally:
        if shop.acpx:
            shop.run(shop.acpx_agent("sessions", "close", SESSION))
        shop.run(shop.agentctl("sessions", "delete", "--yes", SESSION))


def _whole(shop: Workshop, updates: int) -> Row:
    contestants = [lambda: shop.run(_stream(shop, updates)).wall_ms]
    if shop.acpx:
        contestants.append(lambda: shop.run(_prompt(shop, updates)).wall_ms)
    ours, *theirs = interleave(contestants, shop.runs)
    return compared(
        f"warm stream, {updates:,} updates",
        ours,
        theirs[0] if theirs else None,
        peer_name="acpx prompt",
        times_peer=TIMES_ACPX,
    )


def _tail(shop: Workshop, updates: int) -> Row:
    contestants = [lambda: _our_tail_ms(shop, updates)]
    if shop.acpx:
        contestants.append(lambda: shop.lingers_ms(_prompt(shop, updates), b'"stopReason"'))
    ours, *theirs = interleave(contestants, shop.runs)
    return compared(
        f"warm stream, {updates:,} updates: turn's end to exit",
        ours,
        theirs[0] if theirs else None,
        peer_name="acpx prompt",
        goal=TAIL_GOAL_MS,
        times_peer=TIMES_ACPX,
    )


def _our_tail_ms(shop: Workshop, updates: int) -> float:
    written = shop.directory / "stream.json"
    with written.open("wb") as file:
        sample = shop.run(_stream(shop, updates), stdout=file)
    ended = next(line for line in reversed(written.read_bytes().splitlines()) if b'"type":"turn.ended"' in line)
    at = datetime.fromisoformat(json.loads(ended)["time"]).timestamp()
    return (sample.ended_at - at) * 1000


def _cpu(shop: Workshop, updates: int) -> Row:
    """CPU of the command itself for ten updates: what a long turn takes more than a short one."""
    contestants = [lambda: shop.run(_stream(shop, updates)).cpu_ms, lambda: shop.run(_stream(shop, FEW)).cpu_ms]
    if shop.acpx:
        contestants += [lambda: shop.run(_prompt(shop, updates)).cpu_ms, lambda: shop.run(_prompt(shop, FEW)).cpu_ms]
    series = interleave(contestants, shop.runs)
    ours, *theirs = (_per_ten(many, few, updates) for many, few in zip(series[::2], series[1::2], strict=True))
    return compared(
        f"warm stream, {updates:,} updates: CPU per 10 updates",
        ours,
        theirs[0] if theirs else None,
        peer_name="acpx prompt",
        goal=CPU_GOAL_MS,
    )


def _per_ten(many: list[float], few: list[float], updates: int) -> list[float]:
    start = statistics.median(few)
    return [(value - start) * 10 / (updates - FEW) for value in many]


def _stream(shop: Workshop, updates: int) -> list[str]:
    return shop.agentctl("sessions", "stream", SESSION, f"@chunks={updates}", "--json")


def _prompt(shop: Workshop, updates: int) -> list[str]:
    return shop.acpx_prompt(SESSION, f"@chunks={updates}")
