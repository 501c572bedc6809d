"""Many warm sessions: the memory that each takes beside its agent, and a turn in 1, 8 and 64 of them at once."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import proc
from tests.bench.report import Row, compared
from tests.bench.workshop import Workshop

SESSIONS = 64
AT_ONCE = {1: 9, 8: 3, SESSIONS: 1}
"""How many at once, and how often that is counted: the more there are, the less one of them matters."""

UPDATES = 100
MADE_AT_ONCE = 4
TIMES_ACPX = 0.5
EACH_MB = 45.0


def rows(shop: Workshop) -> Iterator[Row]:
    names = [f"warm-{number}" for number in range(SESSIONS)]
    try:
        _make(shop, names)
        for count, runs in AT_ONCE.items():
            yield _turns(shop, names[:count], runs)
        yield _memory(shop)
    finally:
        if shop.acpx:
            _few_at_once(shop, [shop.acpx_agent("sessions", "close", name) for name in names])
        shop.run(shop.agentctl("sessions", "delete", "--yes", *names))


def _make(shop: Workshop, names: list[str]) -> None:
    """Ready for a message: acpx keeps a process for a session only when it has had one."""
    _few_at_once(shop, [shop.agentctl("sessions", "create", name, "--agent-command", shop.stub) for name in names])
    if shop.acpx:
        _few_at_once(shop, [shop.acpx_agent("sessions", "new", "--name", name) for name in names])
        _few_at_once(shop, [shop.acpx_prompt(name, f"@chunks={UPDATES}") for name in names])


def _few_at_once(shop: Workshop, argvs: list[list[str]]) -> None:
    for start in range(0, len(argvs), MADE_AT_ONCE):
        shop.together_ms(argvs[start : start + MADE_AT_ONCE])


def _memory(shop: Workshop) -> Row:
    ours = _each_mb(str(shop.state / "run"), "\0serve\0")
    acpx = _each_mb(f"HOME={shop.directory}\0", "\0__queue-owner\0") if shop.acpx else None
    name = f"memory of each of {SESSIONS} sessions, without its agent"
    return compared(
        name, [ours], [acpx] if acpx else None, unit="MB", peer_name="acpx", goal=EACH_MB, times_peer=TIMES_ACPX
    )


def _each_mb(*words: str) -> float:
    pids = proc.running(*words)
    assert len(pids) == SESSIONS, (words, len(pids))
    return sum(map(proc.pss_mb, pids)) / SESSIONS


def _turns(shop: Workshop, names: list[str], runs: int) -> Row:
    contestants = [lambda: shop.together_ms([_stream(shop, name) for name in names])]
    if shop.acpx:
        prompts = [shop.acpx_prompt(name, f"@chunks={UPDATES}") for name in names]
        contestants.append(lambda: shop.together_ms(prompts))
    ours, *theirs = zip(*([measured() for measured in contestants] for _ in range(runs)), strict=True)
    return compared(
        f"sessions at once: {len(names)}, a turn of {UPDATES} updates in each",
        ours,
        theirs[0] if theirs else None,
        peer_name="acpx prompt",
        times_peer=TIMES_ACPX,
    )


def _stream(shop: Workshop, name: str) -> list[str]:
    return shop.agentctl("sessions", "stream", name, f"@chunks={UPDATES}", "--json")
