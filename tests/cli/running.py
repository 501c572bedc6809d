"""Runs agentctl as a process, as a script would."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentctl.supervisor.processes import ProcessIdentity
from tests.cli import forking
from tests.schemas import check_output

TIMEOUT_S = 60


def agentctl(*args: str, stdin: str | None = None, env: dict[str, str] | None = None, cwd: Any = None) -> Done:
    """Run one command to its end. Without ``stdin`` there is none (/dev/null)."""
    environ = {**os.environ, **(env or {})}
    return Done(args, *forking.run(args, stdin, environ, cwd or Path.cwd(), TIMEOUT_S))


class Agentctl:
    """The same with an environment and a directory of its own, for fixtures of a whole module."""

    def __init__(self, env: dict[str, str], cwd: Any) -> None:
        self._env = env
        self._cwd = cwd

    def __call__(
        self, *args: str, stdin: str | None = None, env: dict[str, str] | None = None, cwd: Any = None
    ) -> Done:
        environ = {**self._env, **(env or {})}
        return Done(args, *forking.run(args, stdin, environ, cwd or self._cwd, TIMEOUT_S))


class Done:
    """What a command left behind. What is read of it as JSON is held to its published schema."""

    def __init__(self, args: Sequence[str], code: int, out: str, err: str) -> None:
        self.args = args
        self.code = code
        self.out = out
        self.err = err

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


def cpu_s(*command: str, runs: int = 5) -> float:
    """The least processor time that a command takes: other than a clock's, it is about the same on a busy machine."""
    taken = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


def alive(pid: int) -> bool:
    process = ProcessIdentity.of(pid)
    return process is not None and process.is_alive()


def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait for something outside of this process, of which nobody tells us."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
