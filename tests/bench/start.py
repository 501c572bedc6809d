"""How long the commands take that do nothing: against an interpreter that does nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.workshop import Workshop


def rows(shop: Workshop) -> Iterator[Row]:
    for option, goal in (("--version", 2), ("--help", 9)):
        ours, bare = interleave(
            [
                lambda option=option: shop.run(shop.agentctl(option)).wall_ms,
                lambda: shop.run([sys.executable, "-c", "pass"]).wall_ms,
            ],
            shop.runs,
        )
        yield compared(f"agentctl {option}", ours, bare, peer_name="python -c pass", goal=goal, goal_is_ratio=True)
