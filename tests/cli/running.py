"""Runs agentctl as a process, as a script would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from agentctl.supervisor.processes import ProcessIdentity
from tests.schemas import check_output


def agentctl(*args: str, stdin: str | None = None, env: dict[str, str] | None = None, cwd: Any = None) -> Done:
    """Run one command to its end. Without ``stdin`` there is none (/dev/null)."""
    done = subprocess.run(
        [sys.executable, "-m", "agentctl.cli", *args],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=60,
        check=False,
    )
    return Done(done)


class Done:
    """What a command left behind. What is read of it as JSON is held to its published schema."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.args = done.args
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr

    @property
    def data(self) -> Any:
        """The data of the JSON envelope."""
        return self.envelope["data"]

    @property
    def envelope(self) -> Any:
        [line] = self.out.splitlines()
        check_output(self.args, self.out)
        return json.loads(line)

    @property
    def events(self) -> list[Any]:
        check_output(self.args, self.out)
        return [json.loads(line) for line in self.out.splitlines()]

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def alive(pid: int) -> bool:
    process = ProcessIdentity.of(pid)
    return process is not None and process.is_alive()


def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Wait for something outside of this process, of which nobody tells us."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
