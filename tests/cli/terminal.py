"""A real terminal for tests: a pseudo-terminal, and an emulator that shows what a person would see on it."""

from __future__ import annotations

import os
import sys
import termios
import time
from collections.abc import Sequence

import pexpect
import pyte


class Terminal:
    """Runs a command on a terminal of ``rows`` × ``columns``; ``close`` ends it."""

    def __init__(self, argv: Sequence[str], *, rows: int = 24, columns: int = 80, env: dict[str, str] | None = None):
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(env or {})}
        environment.setdefault("AGENTCTL_PAGER", "")  # which would wait for a key
        self.child = pexpect.spawn(
            argv[0], list(argv[1:]), env=environment, dimensions=(rows, columns), timeout=60, encoding=None, echo=True
        )
        self.raw = b""
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=1)
        self._stream = pyte.ByteStream(self._screen)

    def read(self, seconds: float = 0.05) -> None:
        """Take in what comes during that time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self._take(self.child.read_nonblocking(65536, timeout=left))
            except pexpect.TIMEOUT:
                return
            except pexpect.EOF:
                return

    def _take(self, data: bytes) -> None:
        self.raw += data
        self._stream.feed(data)

    def wait_for(self, text: str, timeout_s: float = 60) -> None:
        """Until ``text`` is on the screen or above it."""
        end = time.monotonic() + timeout_s
        while text not in self.text:
            if time.monotonic() > end or (not self.child.isalive() and not self._more()):
                raise AssertionError(f"{text!r} was not shown; the terminal shows:\n{self.text}")
            self.read()

    def _more(self) -> bool:
        before = len(self.raw)
        self.read(0.2)
        return len(self.raw) > before

    def send(self, text: str) -> None:
        self.child.send(text.encode())

    def finish(self) -> int:
        """Read to the end and return the exit code (128 + signal where one ended it)."""
        while True:
            try:
                self._take(self.child.read_nonblocking(65536, timeout=60))
            except pexpect.EOF:
                break
        self.child.wait()
        return self.child.exitstatus if self.child.exitstatus is not None else 128 + self.child.signalstatus

    def resize(self, rows: int, columns: int) -> None:
        """Make the window another size. Unlike most terminals, this one does not wrap again what is there already."""
        self._screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    def modes(self) -> list[object]:
        """How the terminal is set (echo, line editing)."""
        return termios.tcgetattr(self.child.child_fd)[:4]

    @property
    def lines(self) -> list[str]:
        """All lines, those scrolled away included."""
        columns = self._screen.columns
        above = ["".join(line[x].data for x in range(columns)).rstrip() for line in self._screen.history.top]
        return above + [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()

    def close(self) -> None:
        self.child.close(force=True)


def agentctl(*args: str) -> list[str]:
    """The command line that runs agentctl in this interpreter."""
    return [sys.executable, "-m", "agentctl.cli", *args]
