"""Long output in a pager: where stdout is a terminal, and only what does not fit on its screen.

``AGENTCTL_PAGER``, else ``PAGER``, else ``less -FRX``; an empty one, ``cat`` and ``--no-pager`` mean none. What follows
something as it happens is not paged: its end would never come.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from agentctl.cli import output
from agentctl.cli.output import Output, ReaderGone, is_terminal

if TYPE_CHECKING:
    import subprocess

VARIABLE = "AGENTCTL_PAGER"
_DEFAULT = "less -FRX"


def forbid(wanted: bool) -> bool:
    """``--no-pager`` is the variable for this one command."""
    if wanted:
        os.environ[VARIABLE] = ""
    return wanted


@contextmanager
def paged(out: Output, *, unless: bool = False) -> Iterator[None]:
    """What is written to stdout meanwhile goes through the pager when it turns out to be long. Whoever leaves the pager
    early has seen enough: that ends the body, and is no error."""
    command = None if unless or out.json or out.quiet else command_line()
    if command is None or not is_terminal(sys.stdout):
        yield
        return
    pager = Pager(command)
    output.paging.append(pager)
    try:
        yield
    except ReaderGone:
        if not pager.runs:
            raise
    finally:
        output.paging.remove(pager)
        pager.close()


def command_line() -> list[str] | None:
    """The pager's words; None for none."""
    import shlex

    given = os.environ.get(VARIABLE, os.environ.get("PAGER", _DEFAULT))
    try:
        words = shlex.split(given)
    except ValueError:  # its quotes do not match
        return None
    return None if words in ([], ["cat"]) or os.environ.get("TERM", "dumb") == "dumb" else words


class Pager:
    """Keeps what is written until it is more than a screen; then the pager has it."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._kept: list[bytes] = []
        self._rows = 0
        self._is_long = False
        self._process: subprocess.Popen[bytes] | None = None
        self._later: list[str] = []
        size = os.get_terminal_size(sys.stdout.fileno())
        self._most_rows, self._columns = max(2, size.lines) - 1, max(1, size.columns)

    @property
    def runs(self) -> bool:
        """Whether the terminal is the pager's."""
        return self._process is not None

    def write(self, data: bytes) -> None:
        """Raise ``ReaderGone`` when the pager was left."""
        if self._is_long:
            self._pass_on(data)
            return
        self._kept.append(data)
        self._rows += _rows_of(data, self._columns)
        if self._rows > self._most_rows:
            self._is_long = True
            self._start()
            self._pass_on(b"".join(self._kept))

    def later(self, text: str) -> bool:
        """Keep what is meant for stderr until the terminal is ours again; False when it is."""
        if self.runs:
            self._later.append(text)
        return self.runs

    def close(self) -> None:
        """Show what is kept, or wait until the pager is left; Ctrl-C is the pager's, too."""
        if not self._is_long:
            self._write_through(b"".join(self._kept))
        elif self._process is not None:
            self._wait(self._process)
        for text in self._later:
            with suppress(OSError):
                sys.stderr.write(text)

    def _start(self) -> None:
        import subprocess

        environ = {"LESS": "FRX", "LV": "-c", **os.environ}
        try:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, env=environ)
        except OSError:
            self._process = None  # there is none of that name: print it all

    def _pass_on(self, data: bytes) -> None:
        if self._process is None:
            self._write_through(data)
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError as e:
            raise ReaderGone from e

    def _write_through(self, data: bytes) -> None:
        with output.written():
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        import signal

        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
        finally:
            signal.signal(signal.SIGINT, before)


def _rows_of(data: bytes, columns: int) -> int:
    """How many rows it takes, about: a line that is wider than the screen takes several."""
    from agentctl.cli.untrusted import clean

    lines = clean(data.decode("utf-8", "replace")).split("\n")
    return len(lines) - 1 + sum(len(line) // columns for line in lines)
