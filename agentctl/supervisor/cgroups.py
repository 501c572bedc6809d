"""Control groups, version 2, where we may write them: the one way by which no process of a sandbox can hide."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_ROUNDS = 40
_PAUSE_S = 0.01
_OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""Of a container's own group, in version 2 and version 1; elsewhere they are missing, or nobody's."""


def create_cgroup(name: str) -> str | None:
    """Make a group below our own v2 group, or on a hybrid system's unified mount; None when the machine forbids it."""
    own = _own_group()
    if own is None or not os.access(own / "cgroup.procs", os.W_OK):
        return None
    path = own / name
    try:
        path.mkdir(exist_ok=True)
    except OSError:
        return None
    return str(path)


def join_cgroup(path: str) -> bool:
    """Move this process in; its later children are born there. False when it cannot."""
    return _put(Path(path, "cgroup.procs"), str(os.getpid()))


def cgroup_pids(path: str) -> list[int]:
    """The processes of the group and of the groups below it; ``[]`` when it is gone."""
    pids: list[int] = []
    for group in _groups(path):
        with suppress(OSError):
            pids += map(int, Path(group, "cgroup.procs").read_text().split())
    return pids


def kill_cgroup(path: str, spare: int | None = None) -> None:
    """KILL every process of the group and of those below, at once, but not ``spare``; wait up to 0.4 s for their end.
    A missing group is fine.
    """
    whole = spare is None and _put(Path(path, "cgroup.kill"), "1")
    for _ in range(_ROUNDS):
        pids = [pid for pid in cgroup_pids(path) if pid != spare]
        if not pids:
            return
        if not whole:
            _kill_members(path, pids)
        time.sleep(_PAUSE_S)


def remove_cgroup(path: str) -> bool:
    """Remove the group and those below it; True when it is gone (also when it never was), False when it is in use."""
    for _ in range(_ROUNDS):
        for group in reversed(_groups(path)):
            with suppress(OSError):
                os.rmdir(group)
        if not os.path.isdir(path):
            return True
        if cgroup_pids(path):
            return False
        time.sleep(_PAUSE_S)
    return False


def oom_kills() -> int:
    """How many processes of our own group the kernel has killed because its memory was full; 0 where nobody tells."""
    for counter in _OOM_COUNTERS:
        with suppress(OSError, ValueError):
            words = Path(counter).read_text().split()
            return int(words[words.index("oom_kill") + 1])
    return 0


def _kill_members(path: str, pids: list[int]) -> None:
    """Hold each process by a pidfd, look whether its pid is still a member, then kill: no stranger is hit."""
    held: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):
            held[pid] = os.pidfd_open(pid)
    members = set(cgroup_pids(path))
    for pid, fd in held.items():
        with suppress(OSError):
            if pid in members:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)


def _groups(path: str) -> list[str]:
    return [group for group, _, _ in os.walk(path)]


def _own_group() -> Path | None:
    """Our own group's directory in the v2 hierarchy, seen through its mount."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return None
    for fields in mounts:
        root, mount_point, kind = fields[3], fields[4], fields[fields.index("-") + 1]
        if kind == "cgroup2" and Path(own).is_relative_to(root):
            return Path(mount_point) / Path(own).relative_to(root)
    return None


def _put(file: Path, text: str) -> bool:
    try:
        file.write_text(text)
    except OSError:
        return False
    return True
