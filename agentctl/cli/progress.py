"""How a long step goes on, on stderr: on a terminal a line that turns, once it has taken half a second, and that leaves
nothing behind; a line a step elsewhere. ``--no-progress`` shows neither."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from agentctl.cli.output import Output, is_terminal
from agentctl.cli.switches import NO_PROGRESS
from agentctl.cli.untrusted import one_line

if TYPE_CHECKING:
    from agentctl.cli.progress_line import ProgressLine
    from agentctl.ops.app import App


class Progress:
    """Called with the step, and how much of how much is done, from any thread; an empty step ends it."""

    def __init__(self, out: Output) -> None:
        import asyncio

        self._out = out
        self._loop = asyncio.get_running_loop()
        self._shown = not (out.quiet or NO_PROGRESS.is_forbidden())
        self.draws = self._shown and is_terminal(sys.stderr) and os.environ.get("TERM", "dumb") != "dumb"
        """Whether a step is seen for as long as it lasts, and no longer."""
        self._step = ""
        self._line: ProgressLine | None = None

    def __call__(self, step: str, done: int | None = None, total: int | None = None) -> None:
        if not step:
            self.close()
            return
        if self._out.in_view is not None:
            self._tell_view(step, done, total)
        elif self.draws:
            if self._line is None or self._line.is_over:
                from agentctl.cli.progress_line import ProgressLine

                self._line = ProgressLine()
            self._line.tell(step, min(done or 0, total) / total if total else None)
        elif self._shown and step != self._step:
            self._out.story(one_line(step), "dim")
        self._step = step

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _tell_view(self, step: str, done: int | None, total: int | None) -> None:
        """From whatever thread: the view belongs to the loop."""
        part = f" {100 * min(done or 0, total) // total} %" if total else ""
        if self._shown and self._out.in_view is not None:
            self._loop.call_soon_threadsafe(self._out.in_view, f"{one_line(step)}{part} …")

    def close(self) -> None:
        """Nothing is going on any more; nothing of it is left on the terminal."""
        line, self._line = self._line, None
        if line is not None:
            line.end()
        self._step = ""


@contextmanager
def watched(app: App, out: Output) -> Iterator[Progress]:
    """What the app has to pull, build or install meanwhile is shown, and on a terminal which step it is at
    (``Output.step``)."""
    with Progress(out) as progress:
        app.progress = progress
        out.on_step = progress if progress.draws else None
        try:
            yield progress
        finally:
            out.on_step = None
