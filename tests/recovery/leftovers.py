"""What agentctl may have left on this host for one state directory."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from agentctl.paths import StatePaths


def leftovers(paths: StatePaths, sandbox_ids: Iterable[str] = ()) -> list[str]:
    """Processes, run directories, control groups, leases and locks, in words; ``[]`` when nothing is left."""
    return [
        *processes(paths),
        *(f"run directory {path}" for path in _entries(paths.run)),
        *(f"control group {path}" for name in sandbox_ids for path in _cgroups(name)),
        *_leases(paths),
        *_held_locks(paths),
    ]


def processes(paths: StatePaths) -> list[str]:
    return [f"process {pid}: {_argv(pid)}" for pid in process_ids(paths)]


def process_ids(paths: StatePaths) -> list[int]:
    """Every living process but ourselves that was started for this state directory: by its environment or argv."""
    mark = os.fsencode(paths.root)
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid())
    return [pid for pid in pids if _mentions(pid, mark)]


def _mentions(pid: int, mark: bytes) -> bool:
    try:
        process = Path("/proc", str(pid))
        return mark in (process / "environ").read_bytes() or mark in (process / "cmdline").read_bytes()
    except OSError:
        return False  # gone meanwhile, or a zombie


def _argv(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "gone"


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _cgroups(sandbox_id: str) -> list[Path]:
    name = f"agentctl-{sandbox_id}"
    return [Path(place, name) for place, names, _ in os.walk("/sys/fs/cgroup") if name in names]


def _leases(paths: StatePaths) -> Iterator[str]:
    if not paths.database.exists():
        return
    database = sqlite3.connect(paths.database)
    try:
        for session_id, holder in database.execute("SELECT session_id, holder FROM leases WHERE holder <> ''"):
            yield f"lease of {session_id} held by {holder}"
        for (sandbox_id,) in database.execute("SELECT id FROM sandboxes"):
            yield f"row of sandbox {sandbox_id}"
    finally:
        database.close()


def _held_locks(paths: StatePaths) -> Iterator[str]:
    for lock in paths.volumes.glob("*/agents/*/log/lock"):
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield f"lock {lock}"
