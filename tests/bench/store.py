"""The store and the history at scale: what a page, a list and a sync cost however much there is, and many at once."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Iterator, Sequence

from agentctl.events import Draft
from agentctl.model import Session, SessionSpec
from agentctl.ops import mirror, sessions, turns
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from agentctl.supervisor.log.session_log import SessionLog
from tests.bench import proc
from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.workshop import Workshop

SCALE_GOAL = 1.5
SYNC_GOAL_S = 2.0
MANY_GOAL = 1.2
HISTORY = 1_000_000
SYNCED = 100_000
PAGE = 100
LISTED = 50
AT_ONCE = 8
UPDATES = 2_000
LINE = b'{"sequence":%d,"type":"item.delta","data":{"item_id":"itm_1","delta":"a few words of an answer"}}'


def rows(shop: Workshop) -> Iterator[Row]:
    yield _page_row(shop)
    yield _list_row(shop)
    yield _sync_row(shop)
    yield _many_row(shop)


def _page_row(shop: Workshop) -> Row:
    with App(_place(shop, "history"), {}) as app:
        session = add_session(app, "long")
        for first in range(1, HISTORY, 20_000):
            app.store.add_events(session.id, [(n, LINE % n) for n in range(first, first + 20_000)])
        late, early = interleave([_page(app, HISTORY * 9 // 10), _page(app, 0)], shop.runs)
    return compared(
        f"history of {HISTORY:,}: a page of {PAGE} at {HISTORY * 9 // 10:,}",
        late,
        early,
        peer_name="at 0",
        times_peer=SCALE_GOAL,
    )


def _page(app: App, offset: int) -> Callable[[], float]:
    async def read() -> None:
        count = 0
        async for page in turns.events(app, "long", offset=offset, limit=PAGE):
            count += len(page)
        assert count == PAGE

    return lambda: _ms(lambda: asyncio.run(read()))


def _list_row(shop: Workshop) -> Row:
    with App(_place(shop, "many"), {}) as many, App(_place(shop, "few"), {}) as few:
        for app, count in ((many, 10_000), (few, 100)):
            for number in range(count):
                add_session(app, f"s{number}")
        among_many, among_few = interleave([_list(many), _list(few)], shop.runs)
    return compared(
        f"list of {LISTED} among 10,000 sessions",
        among_many,
        among_few,
        peer_name="among 100",
        times_peer=SCALE_GOAL,
    )


def _list(app: App) -> Callable[[], float]:
    async def read() -> None:
        assert len(await sessions.listing(app, limit=LISTED)) == LISTED

    return lambda: _ms(lambda: asyncio.run(read()))


def _sync_row(shop: Workshop) -> Row:
    """From the supervisor's log, as it is on the volume, into an empty store."""
    with App(_place(shop, "sync"), {}) as app:
        provider = app.provider("unix_local")
        volume = asyncio.run(provider.volume_create("default"))
        app.store.add_volume(volume)
        session = add_session(app, "synced")
        directory = provider.volume_path(volume, mirror.log_path(session.id))
        log = SessionLog(directory, session.id)
        for number in range(SYNCED // 100):
            draft = Draft("item.delta", {"item_id": f"itm_{number}", "delta": "a few words"}, raw=LINE % number)
            log.append([draft] * 100, turn_id="trn_1")
        log.close()

        def sync() -> float:
            app.store.delete_session(session.id)
            app.store.add_session(session)
            return _ms(lambda: asyncio.run(mirror.from_volume(app, session))) / 1000

        [seconds] = interleave([sync], shop.runs)
        assert app.store.session(session.id).last_sequence == SYNCED
    return compared(f"sync of {SYNCED:,} events to the store", seconds, None, unit="s", goal=SYNC_GOAL_S)


def _many_row(shop: Workshop) -> Row:
    """CPU of commands, supervisors and agents together."""
    names = [f"at-once-{number}" for number in range(AT_ONCE)]
    for name in names:
        shop.run(shop.agentctl("sessions", "create", name, "--agent-command", shop.stub))
    eight, one = interleave([lambda: _cpu_us(shop, names), lambda: _cpu_us(shop, names[:1])], shop.runs)
    shop.run(shop.agentctl("sessions", "delete", "--yes", *names))
    return compared(
        f"{AT_ONCE} sessions at once: CPU per event",
        eight,
        one,
        unit="us",
        peer_name="one alone",
        times_peer=MANY_GOAL,
    )


def _cpu_us(shop: Workshop, names: Sequence[str]) -> float:
    """Microseconds of CPU for each update of a turn that all of them have at the same time."""
    trees = [shop.supervisor(name) for name in names]
    before = sum(map(proc.tree_cpu_s, trees)) + _children_cpu_s()
    shop.together_ms([shop.agentctl("sessions", "stream", name, f"@chunks={UPDATES}", "--json") for name in names])
    spent_s = sum(map(proc.tree_cpu_s, trees)) + _children_cpu_s() - before
    return spent_s * 1e6 / (UPDATES * len(names))


def _place(shop: Workshop, name: str) -> StatePaths:
    return StatePaths(shop.directory / name).ensure()


def add_session(app: App, name: str) -> Session:
    """One that sleeps, as the store knows it."""
    now = time.time()
    session = Session(
        id=f"ses_{name.replace('-', ''):0>12}",
        name=name,
        spec=SessionSpec(agent="mock"),
        status="hibernated",
        created_at=now,
        updated_at=now,
        ephemeral=True,  # or each of ten thousand waits for the disk
    )
    app.store.add_session(session)
    return session


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ms(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000
