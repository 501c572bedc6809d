"""Other processes, as Linux tells of them: whose they are, what memory and what CPU they have taken."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_DEPTH = 5
"""How many generations of a tree are looked for."""


def running(*words: str, parts: Sequence[str] = ("cmdline", "environ")) -> list[int]:
    """The processes with all these words in these files of theirs, where arguments and variables end with NUL."""
    sought = [word.encode() for word in words]
    told = {pid: b"".join(_bytes(pid, part) for part in parts) for pid in _pids()}
    return [pid for pid, text in told.items() if all(word in text for word in sought)]


def pss_mb(pid: int) -> float:
    """Its memory; what it shares with others counts in part. 0 where it is gone or the system does not say."""
    lines = _bytes(pid, "smaps_rollup").decode().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def tree_cpu_s(root: int) -> float:
    """CPU of a living process and its living descendants; 0 where the system has no /proc."""
    stats: dict[int, tuple[int, float]] = {}
    for pid in _pids():
        fields = _bytes(pid, "stat").decode().rpartition(")")[2].split()
        if fields:
            stats[pid] = (int(fields[1]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
    members = {root}
    for _ in range(_DEPTH):
        members |= {pid for pid, (parent, _) in stats.items() if parent in members}
    return sum(stats[pid][1] for pid in members if pid in stats)


def _pids() -> Iterator[int]:
    return (int(path.name) for path in PROC.glob("[0-9]*"))


def _bytes(pid: int, name: str) -> bytes:
    with suppress(OSError):  # it may be gone before it is read, or be somebody else's
        return (PROC / str(pid) / name).read_bytes()
    return b""
