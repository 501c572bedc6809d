"""agentctl as a user runs it: a subprocess with the user's environment, its ``--json`` lines read as they come."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]

PROGRAM = Path(sys.executable).parent / "agentctl"


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended. ``lines`` are its JSON lines; the last one of a stream is the result."""

    code: int
    lines: list[Json]
    stderr: str

    @property
    def result(self) -> Json:
        assert self.lines, self.stderr
        assert self.lines[-1].get("type") == "result", self.lines[-1]
        return self.lines[-1]

    @property
    def data(self) -> Any:
        """What the one object of a command without a stream carries."""
        assert self.code == 0, (self.code, self.lines, self.stderr)
        return self.lines[-1]["data"]

    def events(self, kind: str) -> list[Json]:
        return [line for line in self.lines if line.get("type") == kind]


class Running:
    """A command under way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[Json] = []

    def read_until(self, wanted: Callable[[Json], bool]) -> Json:
        """Read JSON lines until one matches. The test's own timeout is the deadline."""
        assert self.process.stdout is not None
        for text in self.process.stdout:
            self.lines.append(json.loads(text))
            if wanted(self.lines[-1]):
                return self.lines[-1]
        raise AssertionError(f"no line matched: {self.lines[-3:]} {self.finish().stderr}")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()
        self.finish()

    def finish(self, timeout_s: float = 110) -> Finished:
        out, err = self.process.communicate(timeout=timeout_s)
        self.lines += [json.loads(text) for text in out.splitlines() if text]
        return Finished(self.process.returncode, self.lines, err)


class CommandLine:
    """Starts agentctl with one environment, in one directory, and sweeps up after the test."""

    def __init__(self, environment: dict[str, str], cwd: Path) -> None:
        self.environment = environment
        self.cwd = cwd
        self._running: list[Running] = []

    def start(self, *arguments: str) -> Running:
        process = subprocess.Popen(
            [PROGRAM, *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.cwd,
            env=self.environment,
        )
        self._running.append(Running(process))
        return self._running[-1]

    def run(self, *arguments: str) -> Finished:
        return self.start(*arguments).finish()

    def close(self) -> None:
        """End what the test left: its commands, and every process of its state directory."""
        for running in self._running:
            if running.process.poll() is None:
                running.kill()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def processes(self) -> list[int]:
        """Every living process that was started for this state directory, found by its environment and arguments."""
        mark = self.environment["AGENTCTL_STATE_DIR"].encode()
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _mentions(entry, mark)]

    def wait_until_no_process_is_left(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while left := self.processes():
            assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
            time.sleep(0.05)


def _mentions(process: Path, mark: bytes) -> bool:
    try:
        return mark in (process / "environ").read_bytes() or mark in (process / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
