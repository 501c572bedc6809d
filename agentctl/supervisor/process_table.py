"""What the system says of its processes: /proc on Linux, ``ps`` elsewhere."""

from __future__ import annotations

import os
import sys
import time
from functools import cache
from typing import NamedTuple

HAS_PROC = sys.platform.startswith("linux")
_STAT_BYTES = 4096
"""More than ``/proc/<pid>/stat`` can hold."""


class Row(NamedTuple):
    """``start_ticks`` are clock ticks since boot (Linux) or Unix seconds (elsewhere)."""

    pid: int
    parent: int
    start_ticks: int
    dead: bool


@cache
def boot_id() -> str:
    """What names this boot of the machine; a pid and its start mean nothing across boots."""
    if HAS_PROC:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    return _output(["sysctl", "-n", "kern.bootsessionuuid"]).strip()


@cache
def _kernel_threads() -> int:
    """The parent of the kernel's own threads; -1 inside a PID namespace, where pid 2 is anybody's."""
    try:
        with open("/proc/2/comm") as file:
            return 2 if file.read() == "kthreadd\n" else -1
    except OSError:
        return -1


def row(pid: int) -> Row | None:
    """The process that has ``pid`` now, a zombie too; None when there is none."""
    if not HAS_PROC:
        return next(iter(_ps_rows("-p", str(pid))), None)
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # a file object costs half as much again
        try:
            return _parse_stat(pid, os.read(fd, _STAT_BYTES))
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return None


def rows() -> list[Row]:
    """Every process that we can see, without the kernel's own threads."""
    if not HAS_PROC:
        return _ps_rows("-A")
    found = [found for name in os.listdir("/proc") if name.isdecimal() and (found := row(int(name)))]
    return [row_ for row_ in found if _kernel_threads() not in (row_.pid, row_.parent)]


def environment(pid: int) -> bytes | None:
    """The environment that ``pid`` was started with, each ``NAME=value`` between NULs; None when we may not see it, and
    empty when there is none: in a process started so, or in the midst of its exec."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            values = file.read()
    except OSError:
        return None
    return b"\0" + values + b"\0" if values else b""


def _parse_stat(pid: int, stat: bytes) -> Row:
    fields = stat[stat.rindex(b")") + 2 :].split(None, 20)  # the name in parentheses may hold anything
    # A thread-group leader that ended before its other threads looks like a zombie, but the process runs on.
    dead = fields[0] in (b"Z", b"X", b"x") and int(fields[17]) <= 1
    return Row(pid, int(fields[1]), int(fields[19]), dead)


def _ps_rows(*selection: str) -> list[Row]:
    lines = _output(["ps", *selection, "-o", "pid=,ppid=,stat=,lstart="]).splitlines()
    return [_parse_ps(line.split(None, 3)) for line in lines if line.strip()]


def _parse_ps(fields: list[str]) -> Row:
    pid, parent, state, started = fields
    start = int(time.mktime(time.strptime(started.strip(), "%a %b %d %H:%M:%S %Y")))
    return Row(int(pid), int(parent), start, state.startswith("Z"))


def _output(argv: list[str]) -> str:
    import subprocess  # only where there is no /proc

    environ = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(argv, capture_output=True, text=True, env=environ, check=False, timeout=5).stdout
