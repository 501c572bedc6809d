"""One key or one line from the terminal, awaited without blocking the turn that goes on behind the question."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class KeyboardGone(Exception):
    """Nothing more comes from stdin."""


@contextmanager
def single_keys() -> Iterator[None]:
    """Keys arrive as they are pressed, unechoed; Ctrl-C stays a signal. What was typed ahead is thrown away: it was no
    answer to a question that nobody had seen."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd, termios.TCSANOW)
    termios.tcflush(fd, termios.TCIFLUSH)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


class SilentControls:
    """While entered, the terminal does not echo ``^C``: that would wrap a full line, and what is redrawn in place would
    be off by one line. Where stdin is no terminal nothing happens."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None

    def enter(self) -> None:
        if self._before is None and sys.stdin.isatty():
            self._before = termios.tcgetattr(sys.stdin.fileno())
            silent = [*self._before]
            silent[3] &= ~termios.ECHOCTL
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, silent)

    def leave(self) -> None:
        if self._before is not None:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, self._before)
            self._before = None


async def read_key() -> str:
    """The next key; an escape sequence (an arrow, say) is one key that means nothing. Raises ``KeyboardGone``."""
    data = await _readable(64)
    text = data.decode(errors="replace")
    return "" if text.startswith("\x1b") else text[0]


async def read_line() -> str:
    """The next line as the terminal lets a person edit it. Raises ``KeyboardGone`` at its end (Ctrl-D)."""
    return (await _readable(65536)).decode(errors="replace").rstrip("\r\n")


async def _readable(size: int) -> bytes:
    loop = asyncio.get_running_loop()
    fd = sys.stdin.fileno()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
    try:
        data = os.read(fd, size)
    except OSError:
        data = b""
    if not data:
        raise KeyboardGone
    return data
