"""Whom the agent runs as, where that is not whom the supervisor runs as.

A supervisor that is root has no power over the agent's files (its sandbox takes it away), and an agent that is not root
has none over the supervisor. For work on files the supervisor takes the agent's *file system* user id: what it makes in
HOME is the agent's, and a link that the agent planted leads it nowhere that the agent may not go. It stays root in all
that concerns processes.

Its own files, the logs and the socket, lie below a directory that only root's group can pass. The main thread is in
that group; the threads that do the work of the file API are not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}
"""The system call's number: of one thread alone, where the C library's function is of them all."""

_MISSING = "Cannot act for user {}: the capabilities SETUID and SETGID are missing."


def act_for(uid: int, gid: int) -> None:
    """Do file work as this user from now on, in this thread and in all that it starts. Raise ``PermissionError`` when
    the system does not let us."""
    import ctypes  # here, since a supervisor that acts for nobody should not listen 2 ms later

    os.setgroups([0])
    libc = ctypes.CDLL(None)
    for become, wanted in ((libc.setfsgid, gid), (libc.setfsuid, uid)):
        become(wanted)
        if become(-1) != wanted:  # it returns what was before, and reports no failure
            raise PermissionError(_MISSING.format(uid))


def worker_threads() -> ThreadPoolExecutor:
    """Threads that may go where the agent may, and nowhere else."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(initializer=_leave_group())


def _leave_group() -> Callable[[], None]:
    import ctypes

    libc = ctypes.CDLL(None)
    number = _SETGROUPS.get(os.uname().machine)

    def leave() -> None:
        if number is None or libc.syscall(number, 0, None) != 0:
            raise PermissionError("A thread for work on the agent's files cannot be held to the agent's rights.")

    return leave


def start_all_as(uid: int, gid: int) -> None:
    """Start every process as this user from now on, asyncio's too: one that was forgotten would run the agent's files
    as root."""
    import subprocess

    class Popen(subprocess.Popen[Any]):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **{**named, "user": uid, "group": gid, "extra_groups": []})

    subprocess.Popen = Popen  # type: ignore[misc]  # on purpose, see above
