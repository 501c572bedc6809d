"""This terminal handed over to a program elsewhere: raw, and put back as it was whatever happens."""

from __future__ import annotations

import os
import sys
import termios
import tty
from contextlib import suppress
from typing import Any

_TIDY = (
    b"\x1b[?1049l"  # leave the alternate screen
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l"  # no mouse, no focus reports
    b"\x1b[?2004l\x1b[?1l\x1b>"  # no bracketed paste, usual cursor keys and keypad
    b"\x1b[?25h\x1b[0m\r\n"  # a cursor, no colour
)
"""What undoes the things that a full-screen program does, for one that had no chance to."""


class RawTerminal:
    """Use as a context manager. ``tidy`` is for a program that was cut off."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._before: list[Any] | None = None

    def __enter__(self) -> RawTerminal:
        self._before = termios.tcgetattr(self._fd)
        tty.setraw(self._fd, termios.TCSADRAIN)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(termios.error, OSError):  # the terminal itself is gone
            termios.tcsetattr(self._fd, termios.TCSANOW, self._before or [])

    def tidy(self) -> None:
        with suppress(OSError):
            os.write(sys.stdout.fileno(), _TIDY)


def terminal_size() -> tuple[int, int]:
    """``(rows, columns)`` of this terminal; 24 × 80 when it does not know."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return 24, 80
    return size.lines or 24, size.columns or 80
