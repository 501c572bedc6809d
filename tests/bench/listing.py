"""The list of many sessions that nobody uses just now, as a whole command: against bare Python and against acpx."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from agentctl.ops.app import App
from agentctl.paths import StatePaths
from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.store import add_session
from tests.bench.workshop import Workshop

SESSIONS = 1_000
TIMES_PYTHON = 12.0
"""120 ms where bare Python takes 10."""

TIMES_ACPX = 0.5


def rows(shop: Workshop) -> Iterator[Row]:
    state = shop.directory / "listed"
    with App(StatePaths(state).ensure(), {}) as app:
        for number in range(SESSIONS):
            add_session(app, f"listed-{number}")
    ours = shop.agentctl("sessions", "list", "--all", "--json")
    env = shop.env | {"AGENTCTL_STATE_DIR": str(state)}
    assert shop.output(ours, env=env).count('"ses_') == SESSIONS
    commands = [(ours, env), ([sys.executable, "-c", "pass"], shop.env)]
    if shop.acpx:
        commands.append(_acpx(shop))
    contestants = [lambda argv=argv, env=env: shop.run(argv, env=env).wall_ms for argv, env in commands]
    mine, bare, *acpx = interleave(contestants, shop.runs)
    name = f"list of {SESSIONS:,} sessions"
    yield compared(name, mine, bare, peer_name="python -c pass", times_peer=TIMES_PYTHON)
    if acpx:
        yield compared(name, mine, acpx[0], peer_name="acpx sessions list", times_peer=TIMES_ACPX)


def _acpx(shop: Workshop) -> tuple[list[str], dict[str, str]]:
    """A HOME of its own, with one session that acpx made and copies of it."""
    home = shop.directory / "listed-acpx"
    home.mkdir()
    env = shop.env | {"HOME": str(home)}
    shop.run(shop.acpx_agent("sessions", "new", "--name", "first"), env=env)
    [first] = Path(home, ".acpx", "sessions").glob("*.json")
    record = first.read_text()
    made = json.loads(record)["acpx_record_id"]
    for _ in range(SESSIONS - 1):
        new = f"mock-{uuid.uuid4().hex[:16]}"
        (first.parent / f"{new}.json").write_text(record.replace(made, new).replace('"first"', f'"{new}"'))
    argv = shop.acpx_agent("--format", "json", "sessions", "list", "--local")
    assert shop.output(argv, env=env).count('"mock-') >= SESSIONS
    return argv, env
