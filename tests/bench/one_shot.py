"""One message in a throw-away session, every event durable, against ``acpx exec``, which stores nothing."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.workshop import Workshop

GOALS = {3: None, 2_000: 0.5, 20_000: None}


def rows(shop: Workshop) -> Iterator[Row]:
    for updates, goal in GOALS.items():
        yield _row(shop, updates, goal)


def _row(shop: Workshop, updates: int, goal: float | None) -> Row:
    prompt = f"@chunks={updates}"
    ours = shop.agentctl("run", "--agent-command", shop.stub, "--json", prompt)
    contestants = [lambda: shop.run(ours).wall_ms]
    if shop.acpx:
        theirs = [*shop.acpx, "--agent", shop.stub, "--format", "json", "exec", prompt]
        contestants.append(lambda: shop.run(theirs).wall_ms)
    mine, *peer = interleave(contestants, shop.runs)
    return compared(
        f"run, {updates:,} updates",
        mine,
        peer[0] if peer else None,
        peer_name="acpx exec",
        goal=goal,
        goal_is_ratio=True,
    )
