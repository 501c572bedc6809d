"""One key or one line from the terminal, awaited without blocking the turn that goes on behind the question."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

_LINE_EDITING = termios.ICANON | termios.ECHO


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
        # Only what was changed here: whoever silenced controls may have ended meanwhile, or may end later.
        now = termios.tcgetattr(fd)
        now[3] = now[3] & ~_LINE_EDITING | before[3] & _LINE_EDITING
        now[0], now[6] = before[0], before[6]
        termios.tcsetattr(fd, termios.TCSANOW, now)


class SilentControls:
    """While entered, the terminal does not echo ``^C``: that would wrap a full line, and what is redrawn in place would
    be off by one line. Where stdin is no terminal nothing happens."""

    def __init__(self) -> None:
        self._silenced = 0

    def enter(self) -> None:
        if not self._silenced and sys.stdin.isatty():
            now = termios.tcgetattr(sys.stdin.fileno())
            self._silenced = now[3] & termios.ECHOCTL
            now[3] &= ~termios.ECHOCTL
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, now)

    def leave(self) -> None:
        if self._silenced:
            now = termios.tcgetattr(sys.stdin.fileno())
            now[3] |= self._silenced
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, now)
            self._silenced = 0


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
