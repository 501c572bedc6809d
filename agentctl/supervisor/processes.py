"""Processes by identity: found, ended and reaped. Linux first; what macOS lacks is said by the result.

The agent's own process is in ``agent_process.py``, control groups in ``cgroups.py``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from agentctl.supervisor import process_table
from agentctl.wire import SANDBOX_ENV

_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 20
_EXEC_PAUSES_S = (0.001, 0.004)


class ProcessIdentity(NamedTuple):
    """A process that can never be mistaken for a later one with the same pid."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The identity of the process that has ``pid`` now; None when there is none (a zombie has one)."""
        row = process_table.row(pid)
        return row and _identity(row)

    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie is dead."""
        if self.boot_id != process_table.boot_id():
            return False
        row = process_table.row(self.pid)
        return row is not None and not row.dead and row.start_ticks == self.start_ticks

    def signal(self, number: int) -> bool:
        """Send a signal to this very process, never to a later owner of its pid; False when it is gone."""
        try:
            fd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        except OSError:
            fd = None  # gone, or a kernel without pidfds: the check below tells
        try:
            # The pidfd comes first: while it is open, what the check has seen is what the signal reaches.
            return self.is_alive() and _send(fd, self.pid, number)
        finally:
            if fd is not None:
                os.close(fd)


def _send(fd: int | None, pid: int, number: int) -> bool:
    try:
        if fd is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    return True


def _identity(row: process_table.Row) -> ProcessIdentity:
    return ProcessIdentity(row.pid, row.start_ticks, process_table.boot_id())


def become_subreaper() -> bool:
    """Adopt the orphans among our descendants (prctl). False where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # 7 ms, which commands that only look at processes do not pay

    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def descendants(*pids: int) -> list[ProcessIdentity]:
    """Every living process below any of ``pids``, parents before children."""
    return [_identity(row) for row in _below(process_table.rows(), pids)]


def _below(rows: list[process_table.Row], pids: Iterable[int]) -> list[process_table.Row]:
    children: dict[int, list[process_table.Row]] = {}
    for row in rows:
        children.setdefault(row.parent, []).append(row)
    found: list[process_table.Row] = []
    todo = list(pids)
    while todo:
        below = children.pop(todo.pop(0), [])
        found += below
        todo += [row.pid for row in below]
    return [row for row in found if not row.dead]


def marked(value: str, variable: str = SANDBOX_ENV) -> list[ProcessIdentity]:
    """Every living process but ourselves that was started with ``AGENTCTL_SANDBOX_ID=<value>`` (or another variable)
    in its environment; ``[]`` without /proc.
    """
    if not process_table.HAS_PROC:
        return []
    return [_identity(row) for row in _with_mark(process_table.rows(), value, variable)]


def kin(pids: Iterable[int], value: str, variable: str = SANDBOX_ENV, *, since: int = 0) -> list[ProcessIdentity]:
    """``descendants`` of ``pids`` and all that are ``marked``, in one look at the process table. What started before
    ``since`` (``start_ticks`` of the first that was marked) cannot bear the mark: its environment is not read."""
    rows = process_table.rows()
    young = [row for row in rows if row.start_ticks >= since] if process_table.HAS_PROC else []
    found = [*_below(rows, pids), *_with_mark(young, value, variable)]
    return list(dict.fromkeys(_identity(row) for row in found))


def _with_mark(rows: list[process_table.Row], value: str, variable: str) -> list[process_table.Row]:
    mark = f"\0{variable}={value}\0".encode()
    rows = [row for row in rows if row.pid != os.getpid() and not row.dead]
    found: list[process_table.Row] = []
    for pause in (*_EXEC_PAUSES_S, None):
        environments = [(row, process_table.environment(row.pid)) for row in rows]
        found += [row for row, environment in environments if environment and mark in environment]
        rows = [row for row, environment in environments if environment == b""]
        if not rows or pause is None:
            break
        time.sleep(pause)  # in the midst of exec a process shows no environment for a moment
    return found


async def end_all(find: Callable[[], list[ProcessIdentity]], *, grace_s: float) -> list[ProcessIdentity]:
    """TERM all that ``find`` returns, wait up to ``grace_s``, KILL what is left, and look again until ``find`` returns
    nothing alive (at most 20 rounds). Return the survivors, ``[]`` when all is well.

    Whatever was found once is watched until it is dead, even if ``find`` does not return it again.
    """
    known: dict[ProcessIdentity, None] = {}
    deadline = time.monotonic() + grace_s
    found = find()
    if not found:
        return []
    left = _signal_new(found, known, signal.SIGTERM)
    while left and time.monotonic() < deadline:
        await _all_dead(left, min(0.2, deadline - time.monotonic()))
        left = _signal_new(find(), known, signal.SIGTERM)
    for _ in range(_ROUNDS):
        left = _living(dict.fromkeys([*known, *find()]))
        if not left:
            return []
        known.update(dict.fromkeys(left))
        for process in left:
            process.signal(signal.SIGKILL)
        await _all_dead(left, 0.5)
    return _living(known)


def _signal_new(found: list[ProcessIdentity], known: dict[ProcessIdentity, None], number: int) -> list[ProcessIdentity]:
    """Signal those not known yet, remember them, and return all that live."""
    for process in found:
        if process not in known:
            known[process] = None
            process.signal(number)
            process.signal(signal.SIGCONT)  # a stopped process would sleep through the grace time
    return _living(known)


def _living(processes: Iterable[ProcessIdentity]) -> list[ProcessIdentity]:
    return [process for process in processes if process.is_alive()]


async def _all_dead(processes: list[ProcessIdentity], timeout_s: float) -> None:
    """Return when none of them lives, or after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    pause = 0.002
    while (left := deadline - time.monotonic()) > 0 and any(process.is_alive() for process in processes):
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 2, 0.05)


class OrphanReaper:
    """Collects the dead orphans that a subreaper adopts, and never the exit status that someone here waits for.

    Whoever starts a child waits for it, so its zombie is gone at once. A zombie of ours that is still there
    ``patience_s`` after it was first seen has nobody else. (A ``Popen`` that is never polled would be taken for one.)
    """

    def __init__(self, patience_s: float = 1.0) -> None:
        self._patience_s = patience_s
        self._seen: dict[ProcessIdentity, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Work on every SIGCHLD of the running loop, which must be the main thread's."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._schedule)

    def close(self) -> None:
        """Stop. Called in the loop that ``start`` was called in."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        if self._timer is not None:
            self._timer.cancel()

    def collect(self) -> list[int]:
        """Reap the orphans that have waited long enough; return their pids."""
        if not _has_dead_children():
            self._seen = {}
            return []
        now = time.monotonic()
        own = os.getpid()
        zombies = [_identity(row) for row in process_table.rows() if row.parent == own and row.dead]
        self._seen = {zombie: self._seen.get(zombie, now) for zombie in zombies}
        ripe = [zombie.pid for zombie, since in self._seen.items() if now - since >= self._patience_s]
        return [pid for pid in ripe if reap(pid)]

    def _schedule(self) -> None:
        if self._timer is None:
            self.collect()
            self._timer = asyncio.get_running_loop().call_later(self._patience_s * 1.1, self._work)

    def _work(self) -> None:
        self._timer = None
        self.collect()
        if self._seen:
            self._schedule()


def _has_dead_children() -> bool:
    """Whether it is worth looking at every process for them: the kernel tells at once that there are none."""
    if not hasattr(os, "waitid"):
        return True
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def reap(pid: int) -> bool:
    """Take a dead child's exit status away from the kernel; False when it is not a dead child of ours."""
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return False
