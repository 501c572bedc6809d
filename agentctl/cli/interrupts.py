"""Ctrl-C, SIGTERM and a closed terminal, for commands that wait.

Without a handler of its own a command is cancelled; its exit code is then 128 + the signal's number.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

Handler = Callable[[signal.Signals, int], None]
"""Called with the signal and how many have come so far, this one included."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Receives the signals of one command while it is entered. ``code`` is the exit code that they ask for."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.handler: Handler | None = None
        self._count = 0
        self._installed: list[signal.Signals] = []

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup and background jobs of plain shells ignore them
                self._loop.add_signal_handler(number, self._received, number)
                self._installed.append(number)
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        for number in self._installed:
            self._loop.remove_signal_handler(number)

    def _received(self, number: signal.Signals) -> None:
        self.code = 128 + number
        self._count += 1
        if self.handler is not None:
            self.handler(number, self._count)
        else:
            self.stop()

    def stop(self) -> None:
        """Cancel the command."""
        if self._task is not None:
            self._task.cancel()


async def guarded(body: Callable[[Interrupts], Awaitable[int | None]]) -> int:
    """Run a command's body and return its exit code, or the one that a signal asks for."""
    with Interrupts() as interrupts:
        try:
            code = await body(interrupts)
        except asyncio.CancelledError:
            if interrupts.code is None:
                raise
            return interrupts.code
    return code or 0
