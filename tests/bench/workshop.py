"""Where the benchmark works: a state directory and a HOME of its own, the commands of both contestants, one stub."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import agentctl
from tests.bench.samples import Sample, run

_STUB = Path(agentctl.__file__).parent / "supervisor" / "mock" / "agent.py"
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ")


class Workshop:
    """Use as a context manager: at the end every session is deleted, so that no process is left.

    ``runs`` is how often each command is counted; ``acpx`` is the peer's command, or None without it.
    """

    def __init__(self, *, runs: int, acpx: list[str] | None) -> None:
        self.runs = runs
        self.acpx = acpx
        self._directory = tempfile.TemporaryDirectory(prefix="agentctl-bench-")
        self.directory = Path(self._directory.name)
        self.state = self.directory / "state"
        self.env = {name: value for name, value in os.environ.items() if name in _PASSED}
        self.env |= {"HOME": str(self.directory), "AGENTCTL_STATE_DIR": str(self.state)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            left = self.output(self.agentctl("sessions", "list", "--all", "-q")).split()
            if left:
                self.run(self.agentctl("sessions", "delete", "--yes", *left))
        finally:
            self._directory.cleanup()

    @property
    def stub(self) -> str:
        """One agent for both contestants, as a shell would write its command."""
        return shlex.join([sys.executable, "-IS", str(_STUB)])

    def agentctl(self, *args: str) -> list[str]:
        """The command as a user has it: the script that pip wrote beside this Python."""
        return [str(Path(sys.executable).with_name("agentctl")), *args]

    def run(self, argv: Sequence[str], stdout: int | IO[bytes] = subprocess.DEVNULL) -> Sample:
        return run(argv, env=self.env, cwd=self.directory, stdout=stdout)

    def piped(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """The command under way, its stdout to be read as it comes."""
        return subprocess.Popen(
            argv,
            env=self.env,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def output(self, argv: Sequence[str]) -> str:
        done = subprocess.run(
            argv, env=self.env, cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
        return done.stdout
