"""One message in a throw-away session, every event durable, against ``acpx exec``, which stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.workshop import Workshop

UPDATES = (3, 2_000, 20_000)
AT_ONCE = 8
TIMES_ACPX = 0.5

Measure = Callable[[list[str]], float]


def rows(shop: Workshop) -> Iterator[Row]:
    for updates in UPDATES:
        yield _row(shop, f"run, {updates:,} updates", updates, lambda argv: shop.run(argv).wall_ms)
    yield _row(
        shop,
        "run: the turn's end on stdout to exit",
        3,
        lambda argv: shop.lingers_ms(argv, b'"turn.ended"'),
        lambda argv: shop.lingers_ms(argv, b'"stopReason"'),
    )
    yield _row(shop, f"{AT_ONCE} runs at once, 3 updates", 3, lambda argv: shop.together_ms([argv] * AT_ONCE))


def _row(shop: Workshop, name: str, updates: int, measure: Measure, measure_acpx: Measure | None = None) -> Row:
    prompt = f"@chunks={updates}"
    ours = shop.agentctl("run", "--agent-command", shop.stub, "--json", prompt)
    contestants = [lambda: measure(ours)]
    if shop.acpx:
        theirs = shop.acpx_agent("--format", "json", "exec", prompt)
        contestants.append(lambda: (measure_acpx or measure)(theirs))
    mine, *peer = interleave(contestants, shop.runs)
    return compared(name, mine, peer[0] if peer else None, peer_name="acpx exec", times_peer=TIMES_ACPX)
