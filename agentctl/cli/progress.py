"""How a long step goes on, on stderr: a bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentctl.cli.output import Output, is_terminal
from agentctl.cli.untrusted import one_line

if TYPE_CHECKING:
    from agentctl.ops.app import App

_NARROWEST = 60


class Progress:
    """Called with the step, and how much of how much is done; an empty step ends it."""

    WIDTH = 30

    def __init__(self, out: Output) -> None:
        self._out = out
        self._draws = is_terminal(sys.stderr) and not out.quiet
        self._step = ""

    def __call__(self, step: str, done: int | None = None, total: int | None = None) -> None:
        if not step:
            self.close()
            return
        if self._draws:
            filled = self.WIDTH * min(done or 0, total) // total if total else 0
            bar = f" [{'#' * filled}{'.' * (self.WIDTH - filled)}]" if total else ""
            self._write(f"\r{one_line(step, _columns() - len(bar) - 1)}{bar}\x1b[K")
        elif step != self._step:
            self._out.story(one_line(step), "dim")
        self._step = step

    def close(self) -> None:
        """Leave the line."""
        if self._draws and self._step:
            self._write("\r\x1b[K")
        self._step = ""

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._draws = False  # the terminal is gone; the step goes on


def _columns() -> int:
    """A line that is longer could not be drawn again."""
    try:
        return max(_NARROWEST, os.get_terminal_size(sys.stderr.fileno()).columns)
    except (OSError, ValueError):
        return _NARROWEST


@contextmanager
def watched(app: App, out: Output) -> Iterator[None]:
    """What the app has to pull, build or install meanwhile is shown."""
    progress = Progress(out)
    app.progress = progress
    try:
        yield
    finally:
        progress.close()
