"""The store and the history at scale: what a page, a list and a sync cost however much there is, and many at once."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from agentctl.events import Draft
from agentctl.model import Session, SessionSpec
from agentctl.ops import mirror, sessions, turns
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from agentctl.supervisor.log.session_log import SessionLog
from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.workshop import Workshop

SCALE_GOAL = 1.5
SYNC_GOAL_S = 2.0
MANY_GOAL = 1.2
RECOVERY_GOAL_MS = 500.0
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
    yield _recovery_row(shop)


def _page_row(shop: Workshop) -> Row:
    with App(_place(shop, "history"), {}) as app:
        session = _session(app, "long")
        for first in range(1, HISTORY, 20_000):
            app.store.add_events(session.id, [(n, LINE % n) for n in range(first, first + 20_000)])
        late, early = interleave([_page(app, HISTORY * 9 // 10), _page(app, 0)], shop.runs)
    return compared(
        f"history of {HISTORY:,}: a page of {PAGE} at {HISTORY * 9 // 10:,}",
        late,
        early,
        peer_name="at 0",
        goal=SCALE_GOAL,
        goal_is_ratio=True,
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
                _session(app, f"s{number}")
        among_many, among_few = interleave([_list(many), _list(few)], shop.runs)
    return compared(
        f"list of {LISTED} among 10,000 sessions",
        among_many,
        among_few,
        peer_name="among 100",
        goal=SCALE_GOAL,
        goal_is_ratio=True,
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
        app.store.put_volume(volume)
        session = _session(app, "synced")
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
        goal=MANY_GOAL,
        goal_is_ratio=True,
    )


def _cpu_us(shop: Workshop, names: Sequence[str]) -> float:
    """Microseconds of CPU for each update of a turn that all of them have at the same time."""
    trees = [_supervisor(shop, name) for name in names]
    before = sum(map(_tree_cpu_s, trees)) + _children_cpu_s()
    commands = [
        subprocess.Popen(
            shop.agentctl("sessions", "stream", name, f"@chunks={UPDATES}", "--json"),
            env=shop.env,
            cwd=shop.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name in names
    ]
    for command in commands:
        assert command.wait(timeout=60) == 0
    spent_s = sum(map(_tree_cpu_s, trees)) + _children_cpu_s() - before
    return spent_s * 1e6 / (UPDATES * len(names))


def _recovery_row(shop: Workshop) -> Row:
    """From the start of the command to its first event, minus what the agent alone takes to answer."""
    shop.run(shop.agentctl("sessions", "create", "killed", "--agent-command", shop.stub))
    shop.run(shop.agentctl("sessions", "stream", "killed", "hello"))
    whole, agent = interleave([lambda: _recovery_ms(shop), lambda: _agent_ms(shop)], shop.runs)
    shop.run(shop.agentctl("sessions", "delete", "--yes", "killed"))
    net = [a - b for a, b in zip(whole, agent, strict=True)]
    return compared("supervisor killed: to the next turn's first event", net, None, goal=RECOVERY_GOAL_MS)


def _recovery_ms(shop: Workshop) -> float:
    os.kill(_supervisor(shop, "killed"), 9)
    started = time.perf_counter()
    argv = shop.agentctl("sessions", "stream", "killed", "hello", "--json")
    with shop.piped(argv) as command:
        assert command.stdout is not None
        first = command.stdout.readline()
        elapsed_ms = (time.perf_counter() - started) * 1000
        command.stdout.read()
    assert b'"sequence"' in first, first
    assert command.returncode == 0
    return elapsed_ms


def _agent_ms(shop: Workshop) -> float:
    """The agent's own start-up: until it has answered its first request."""
    request = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1}}\n'
    started = time.perf_counter()
    with subprocess.Popen(
        shop.stub.split(), env=shop.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        agent.stdin.write(request)
        agent.stdin.flush()
        assert b'"result"' in agent.stdout.readline()
        elapsed_ms = (time.perf_counter() - started) * 1000
        agent.stdin.close()
    return elapsed_ms


def _place(shop: Workshop, name: str) -> StatePaths:
    return StatePaths(shop.directory / name).ensure()


def _session(app: App, name: str) -> Session:
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


def _supervisor(shop: Workshop, name: str) -> int:
    with App(StatePaths(shop.state), {}) as app:
        sandbox = app.store.sandbox(app.store.session(name).sandbox_id or "")
    assert sandbox is not None
    return int(sandbox.handle["pid"])


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tree_cpu_s(root: int) -> float:
    """CPU of a living process and its living descendants; 0 where the system has no /proc."""
    stats: dict[int, tuple[int, float]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it may be gone before it is read
            fields = path.read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            stats[int(path.parent.name)] = (int(fields[1]), ticks / os.sysconf("SC_CLK_TCK"))
    members = {root}
    for _ in range(5):
        members |= {pid for pid, (parent, _) in stats.items() if parent in members}
    return sum(stats[pid][1] for pid in members if pid in stats)


def _ms(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000
