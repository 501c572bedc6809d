"""How long the commands take that do nothing: against an interpreter that does nothing, and against acpx's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.workshop import Workshop

TIMES_PYTHON = {"--version": 2.0, "--help": 9.0}
TIMES_ACPX = 0.5


def rows(shop: Workshop) -> Iterator[Row]:
    for option, times_python in TIMES_PYTHON.items():
        commands = [shop.agentctl(option), [sys.executable, "-c", "pass"]]
        if shop.acpx:
            commands.append([*shop.acpx, option])
        contestants = [lambda argv=argv: shop.run(argv).wall_ms for argv in commands]
        ours, bare, *acpx = interleave(contestants, shop.runs)
        yield compared(f"agentctl {option}", ours, bare, peer_name="python -c pass", times_peer=times_python)
        if acpx:
            yield compared(f"agentctl {option}", ours, acpx[0], peer_name=f"acpx {option}", times_peer=TIMES_ACPX)
