"""The table of ``agentctl sessions list``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from agentctl.cli.output import Output, is_terminal
from agentctl.cli.plain_output import print_table
from agentctl.cli.story import money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentctl.model import Session

COLUMNS = ("name", "agent", "status", "provider", "active", "cost", "title", "id")
_NEEDED = COLUMNS[:5]


def print_sessions(out: Output, found: Sequence[Session], queued: dict[str, int]) -> None:
    """All columns for a script. On a terminal there is no column without a value, nor the id: the name says it, and
    80 columns are better spent on the title."""
    now = time.time()
    rows = [_row(session, queued.get(session.id, 0), now) for session in found]
    shown = [i for i, name in enumerate(COLUMNS) if not is_terminal(sys.stdout) or _is_worth_it(name, i, rows)]
    print_table(out, [COLUMNS[i] for i in shown], [[row[i] for i in shown] for row in rows], first_is_whole=True)


def _is_worth_it(name: str, i: int, rows: Sequence[tuple[str, ...]]) -> bool:
    return name in _NEEDED or (name != "id" and any(row[i] for row in rows))


def _row(session: Session, in_line: int, now: float) -> tuple[str, ...]:
    spec = session.spec
    return (
        session.name,
        spec.user_agent or spec.agent,
        f"{session.status}, {in_line} in line" if in_line else session.status,
        spec.provider,
        age(now - session.updated_at),
        money(session.cost, exact=False),
        session.title or "",
        session.id,
    )


def age(seconds: float) -> str:
    """How long ago, roughly."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now" if seconds < 5 else f"{seconds:.0f} s ago"
