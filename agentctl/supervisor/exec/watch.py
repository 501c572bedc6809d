"""Learns of a process's death from the process itself: a pipe that somebody else holds says nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from agentctl.supervisor.processes import ProcessIdentity

_POLL_S = 0.05


def watch(process: ProcessIdentity, dead: Callable[[], bool]) -> Callable[[], None]:
    """Call ``dead`` when the process has ended, again and again until it returns True. Also for one that is no child of
    ours. What is returned ends the watch."""
    loop = asyncio.get_running_loop()
    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return _poll(loop, process, dead)

    is_open = True

    def stop() -> None:
        nonlocal is_open
        if is_open:
            is_open = False
            loop.remove_reader(pidfd)
            os.close(pidfd)

    def readable() -> None:
        if dead():
            stop()

    loop.add_reader(pidfd, readable)
    return stop


def _poll(loop: asyncio.AbstractEventLoop, process: ProcessIdentity, dead: Callable[[], bool]) -> Callable[[], None]:
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if process.is_alive() or not dead():
            timer = loop.call_later(_POLL_S, look)

    timer = loop.call_later(0, look)
    return lambda: timer.cancel()
