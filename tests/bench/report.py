"""The rows of the benchmark, as a table for people and as JSON to compare runs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.peers import ACPX_VERSION, NODE_VERSION, SANDBOX_AGENT_VERSION
from tests.bench.samples import Figure, figure, ratio

if TYPE_CHECKING:
    from tests.bench.workshop import Workshop

HEADINGS = ("what", "ours", "min", "peer", "its", "min", "ratio", "goal", "met")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. ``goal`` is an upper bound of our median, ``times_peer`` of the ratio to the peer."""

    name: str
    unit: str
    ours: Figure
    peer_name: str | None = None
    peer: Figure | None = None
    ratio: float | None = None
    goal: float | None = None
    times_peer: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether every goal is; None without one, or without the peer that it speaks of."""
        judged = [
            value <= bound
            for value, bound in ((self.ours.median, self.goal), (self.ratio, self.times_peer))
            if value is not None and bound is not None
        ]
        return all(judged) if judged else None

    @property
    def _goals(self) -> list[tuple[float, str]]:
        return [(b, unit) for b, unit in ((self.goal, self.unit), (self.times_peer, "x")) if b is not None]

    def cells(self) -> tuple[str, ...]:
        bound = ", ".join(f"<= {at_most:g} {unit}" for at_most, unit in self._goals) or "-"
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
            "goals": [{"at_most": at_most, "of": unit} for at_most, unit in self._goals],
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
    times_peer: float | None = None,
) -> Row:
    """A row of two series that were measured in turn; ``theirs`` is None where there is no peer. There is no ratio to
    a peer's nothing."""
    return Row(
        name=name,
        unit=unit,
        ours=figure(ours),
        peer_name=peer_name if theirs else None,
        peer=figure(theirs) if theirs else None,
        ratio=ratio(ours, theirs) if theirs and all(theirs) else None,
        goal=goal,
        times_peer=times_peer,
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
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
            "load_average": {"before": self.load_before, "after": os.getloadavg()},
            "python": platform.python_version(),
            "peers": _peers(shop),
        }

    def json(self) -> str:
        return json.dumps({**self.about, "rows": [row.to_json() for row in self.rows]}, indent=1) + "\n"

    def text(self) -> str:
        table = [HEADINGS, *(row.cells() for row in self.rows)]
        widths = [max(len(cells[column]) for cells in table) for column in range(len(HEADINGS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) for cells in table]
        before, after = (" ".join(f"{value:.1f}" for value in self.about["load_average"][at]) for at in _TIMES)
        machine = (
            f"{self.about['date']}, {self.about['cpus']} x {self.about['processor']}, Python {self.about['python']}"
        )
        load = f", load {before} before and {after} after"
        peers = "".join(f", {name} {version}" for name, version in self.about["peers"].items())
        return "\n".join([machine + peers + load, "", *(line.rstrip() for line in lines)])


_TIMES = ("before", "after")


def _processor() -> str:
    """Its name, where Linux says it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _peers(shop: Workshop) -> dict[str, str]:
    acpx = {"acpx": ACPX_VERSION, "node": NODE_VERSION} if shop.acpx else {}
    return acpx | ({"sandbox-agent": SANDBOX_AGENT_VERSION} if shop.sandbox_agent else {})


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _rounded(value: Figure) -> dict[str, Any]:
    return {"median": round(value.median, 3), "min": round(value.minimum, 3), "runs": value.runs}
