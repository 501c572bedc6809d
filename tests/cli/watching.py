"""A command that streams a turn as JSON, read line by line; and turns that say when they have done something."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Watched:
    """``agentctl ARGS --json`` as a process of its own; use as a context manager. ``lines`` are those read so far."""

    def __init__(self, *args: str) -> None:
        argv = [sys.executable, "-m", "agentctl.cli", *args, "--json"]
        pipe = subprocess.PIPE
        # Unbuffered: what `communicate` reads at the end must not be waiting in a buffer of `until`.
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, bufsize=0)
        self.lines: list[Json] = []

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def until(self, kind: str) -> Json:
        """Read on to the next line of this type."""
        for line in self._read():
            if line["type"] == kind:
                return line
        raise AssertionError(f"it ended before {kind}: {self.lines}")

    def story_until(self, text: str) -> str:
        """What it says on stderr until it says this."""
        assert self.process.stderr is not None
        story = ""
        while text not in story:
            line = self.process.stderr.readline().decode()
            assert line, f"it ended before {text!r}: {story}"
            story += line
        return story

    def _read(self) -> Iterator[Json]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            yield self.lines[-1]

    def finish(self) -> Json:
        """Read to the end; the result line. ``code`` and ``err`` are there then."""
        out, err = self.process.communicate(timeout=60)
        self.lines += [json.loads(line) for line in out.splitlines()]
        self.code, self.err = self.process.returncode, err.decode()
        return self.lines[-1]

    def types(self, turn_id: str) -> list[str]:
        """The types of the ``turn.*`` events about this turn, in order."""
        events = [line for line in self.lines if line["type"].startswith("turn.")]
        return [event["type"] for event in events if event["data"]["turn_id"] == turn_id]


class Effects:
    """What a mock agent's command leaves in the world, counted in a file."""

    def __init__(self, directory: Path) -> None:
        self._ran, self._begun = directory / "ran", directory / "begun"
        self._ran.touch()
        os.mkfifo(self._begun)
        self._pipe = os.open(self._begun, os.O_RDWR | os.O_NONBLOCK)

    def message(self, hangs: int = 1) -> str:
        """A prompt that has one effect, and then hangs, the first ``hangs`` times."""
        hang = f"test $(wc -l < {self._ran}) -gt {hangs} || {{ echo begun > {self._begun}; sleep 60; }}"
        return f'@sh!="echo ran >> {self._ran}; {hang}" done'

    def wait_begun(self) -> None:
        """Until the command has had its effect and hangs."""
        ready, _, _ = select.select([self._pipe], [], [], 60)
        assert ready, "the command has not begun"
        assert os.read(self._pipe, 6) == b"begun\n"

    @property
    def count(self) -> int:
        return len(self._ran.read_text().splitlines())

    def close(self) -> None:
        os.close(self._pipe)


def supervisor_pid() -> int:
    """The process of the only sandbox there is."""
    database = sqlite3.connect(Path(os.environ["AGENTCTL_STATE_DIR"]) / "agentctl.db")
    try:
        [(handle,)] = database.execute("select handle from sandboxes").fetchall()
    finally:
        database.close()
    pid: int = json.loads(handle)["pid"]
    return pid


def kill_supervisor() -> None:
    os.kill(supervisor_pid(), signal.SIGKILL)
