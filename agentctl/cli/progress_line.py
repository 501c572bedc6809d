"""One line at the bottom of a terminal that shows that something goes on: it appears after half a second, turns, and
leaves nothing behind."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from agentctl.cli import output
from agentctl.cli.cells import cut, width
from agentctl.cli.untrusted import one_line

PATIENCE_S = 0.5
_REDRAW_S = 0.1
_BAR = 30
_NARROWEST = 40
_CLEAR_LINE = "\r\x1b[K"


class ProgressLine:
    """Redrawn by a thread of its own: whoever works may block. What else is printed meanwhile comes above it
    (``output.drawn``)."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._text, self._drawn = "", False
        self._part: float | None = None
        self._since = time.monotonic()
        output.drawn.append(self)
        self._thread = threading.Thread(target=self._redraw, name="progress", daemon=True)
        self._thread.start()

    def tell(self, step: str, part: float | None) -> None:
        self._text, self._part = step, part

    def end(self) -> None:
        self._ended.set()
        if self in output.drawn:
            output.drawn.remove(self)
        self._thread.join()
        with self.moved():
            return

    @property
    def is_over(self) -> bool:
        return self._ended.is_set()

    @contextmanager
    def moved(self) -> Iterator[None]:
        """Take it away while somebody else prints."""
        with self._lock:
            if self._drawn:
                self._write(_CLEAR_LINE)
                self._drawn = False
            yield

    def _redraw(self) -> None:
        pause = PATIENCE_S
        while not self._ended.wait(pause):
            pause = _REDRAW_S
            with self._lock:
                if self._ended.is_set():
                    return
                self._write(f"\r{self._picture()}\x1b[K")
                self._drawn = True

    def _picture(self) -> str:
        signs = _signs()
        sign = signs[int((time.monotonic() - self._since) / _REDRAW_S) % len(signs)]
        filled = int(_BAR * (self._part or 0))
        bar = "" if self._part is None else f" [{'#' * filled}{'.' * (_BAR - filled)}]"
        room = _columns() - width(bar) - 3
        return f"{sign} {cut(one_line(self._text, 1000), room)}{bar}"

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            self._ended.set()  # the terminal is gone; the step goes on


def _signs() -> str:
    return "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if (sys.stderr.encoding or "").lower().startswith("utf") else "-\\|/"


def _columns() -> int:
    """A line that is longer could not be drawn again."""
    try:
        return max(_NARROWEST, os.get_terminal_size(sys.stderr.fileno()).columns)
    except (OSError, ValueError):
        return _NARROWEST
