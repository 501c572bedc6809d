"""The rows of the benchmark, as a table for people and as JSON to compare runs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.bench.peers import ACPX_VERSION, NODE_VERSION
from tests.bench.samples import Figure, figure, ratio

if TYPE_CHECKING:
    from tests.bench.workshop import Workshop

HEADINGS = ("what", "ours", "min", "peer", "its", "min", "ratio", "goal", "met")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. ``goal`` is an upper bound: of the ratio to the peer where ``goal_is_ratio``, else of our median."""

    name: str
    unit: str
    ours: Figure
    peer_name: str | None = None
    peer: Figure | None = None
    ratio: float | None = None
    goal: float | None = None
    goal_is_ratio: bool = False

    @property
    def met(self) -> bool | None:
        """None without a goal, or without the peer that it speaks of."""
        value = self.ratio if self.goal_is_ratio else self.ours.median
        return None if self.goal is None or value is None else value <= self.goal

    @property
    def _goal_unit(self) -> str:
        return "x" if self.goal_is_ratio else self.unit

    def cells(self) -> tuple[str, ...]:
        bound = f"<= {self.goal:g} {self._goal_unit}" if self.goal is not None else "-"
        return (
            self.name,
            f"{_short(self.ours.median)} {self.unit}",
            _short(self.ours.minimum),
            self.peer_name or "-",
            f"{_short(self.peer.median)} {self.unit}" if self.peer else "-",
            _short(self.peer.minimum) if self.peer else "-",
            f"{self.ratio:.2f} x" if self.ratio is not None else "-",
            bound,
            {True: "yes", False: "NO", None: "-"}[self.met],
        )

    def line(self) -> str:
        return "  ".join(self.cells())

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": _rounded(self.ours),
            "peer": {"name": self.peer_name, **_rounded(self.peer)} if self.peer else None,
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "goal": None if self.goal is None else {"at_most": self.goal, "of": self._goal_unit},
            "met": self.met,
        }


def compared(
    name: str,
    ours: Sequence[float],
    theirs: Sequence[float] | None,
    *,
    unit: str = "ms",
    peer_name: str | None = None,
    goal: float | None = None,
    goal_is_ratio: bool = False,
) -> Row:
    """A row of two series that were measured in turn; ``theirs`` is None where there is no peer."""
    return Row(
        name=name,
        unit=unit,
        ours=figure(ours),
        peer_name=peer_name if theirs else None,
        peer=figure(theirs) if theirs else None,
        ratio=ratio(ours, theirs) if theirs else None,
        goal=goal,
        goal_is_ratio=goal_is_ratio,
    )


@dataclass(slots=True)
class Report:
    """All rows of one run, with what one has to know of the machine to read them."""

    load_before: tuple[float, float, float]
    rows: list[Row] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        self.rows.append(row)

    def finish(self, shop: Workshop) -> None:
        self.about = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "system": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "load_average": {"before": self.load_before, "after": os.getloadavg()},
            "python": platform.python_version(),
            "peers": {"acpx": ACPX_VERSION, "node": NODE_VERSION} if shop.acpx else {},
        }

    def json(self) -> str:
        return json.dumps({**self.about, "rows": [row.to_json() for row in self.rows]}, indent=1) + "\n"

    def text(self) -> str:
        table = [HEADINGS, *(row.cells() for row in self.rows)]
        widths = [max(len(cells[column]) for cells in table) for column in range(len(HEADINGS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in table]
        before, after = (" ".join(f"{value:.1f}" for value in self.about["load_average"][at]) for at in _TIMES)
        about = f"{self.about['cpus']} CPUs, load {before} before and {after} after, Python {self.about['python']}"
        peers = "".join(f", {name} {version}" for name, version in self.about["peers"].items())
        return "\n".join([about + peers, "", *(line.rstrip() for line in lines)])


_TIMES = ("before", "after")


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _rounded(value: Figure) -> dict[str, Any]:
    return {"median": round(value.median, 3), "min": round(value.minimum, 3), "runs": value.runs}
