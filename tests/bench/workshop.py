"""Where the benchmark works: a state directory and a HOME of its own, the commands of the contestants, one stub."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import agentctl
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from tests.bench import proc
from tests.bench.samples import Sample, run

_STUB = Path(agentctl.__file__).parent / "supervisor" / "mock" / "agent.py"
TOGETHER_S = 300
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ")


class Workshop:
    """Use as a context manager: at the end every session is deleted, and no process of ours or a peer's is left.

    ``runs`` is how often each command is counted; ``acpx`` and ``sandbox_agent`` are the peers' commands, or None
    without them.
    """

    def __init__(self, *, runs: int, acpx: list[str] | None = None, sandbox_agent: list[str] | None = None) -> None:
        self.runs = runs
        self.acpx = acpx
        self.sandbox_agent = sandbox_agent
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
            for pid in proc.running(f"HOME={self.directory}\0"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)  # acpx keeps processes for minutes
            self._directory.cleanup()

    @property
    def stub(self) -> str:
        """One agent for all contestants, as a shell would write its command."""
        return shlex.join([sys.executable, "-IS", str(_STUB)])

    def agentctl(self, *args: str) -> list[str]:
        """The command as a user has it: the script that pip wrote beside this Python."""
        return [str(Path(sys.executable).with_name("agentctl")), *args]

    def acpx_prompt(self, session: str, text: str) -> list[str]:
        return self.acpx_agent("--format", "json", "prompt", "-s", session, text)

    def acpx_agent(self, *args: str) -> list[str]:
        """acpx on the stub; there has to be an acpx."""
        assert self.acpx is not None
        return [*self.acpx, "--agent", self.stub, *args]

    def supervisor(self, session: str) -> int:
        """The pid of a living session's supervisor."""
        with App(StatePaths(self.state), {}) as app:
            sandbox = app.store.sandbox(app.store.session(session).sandbox_id or "")
        assert sandbox is not None
        return int(sandbox.handle["pid"])

    def run(
        self,
        argv: Sequence[str],
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> Sample:
        """``env`` is instead of the workshop's own, as below."""
        return run(argv, env=env or self.env, cwd=self.directory, stdout=stdout)

    def piped(self, argv: Sequence[str], stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """The command under way, its stdout to be read as it comes."""
        return subprocess.Popen(
            argv,
            env=self.env,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
        )

    def first_ms(self, argv: Sequence[str], *words: bytes) -> float:
        """From the start of a command to the first line with all these words on its stdout; it runs to its end."""
        started = time.perf_counter()
        with self.piped(argv) as process:
            assert process.stdout is not None
            found = next((time.perf_counter() for line in process.stdout if all(w in line for w in words)), None)
            process.stdout.read()
        assert found is not None, (argv, words)
        assert process.returncode == 0, argv
        return (found - started) * 1000

    def lingers_ms(self, argv: Sequence[str], word: bytes) -> float:
        """From the line with this word on a command's stdout to the command's exit."""
        with self.piped(argv) as process:
            assert process.stdout is not None
            at = next(time.perf_counter() for line in process.stdout if word in line)
            process.stdout.read()
            process.wait()
            return (time.perf_counter() - at) * 1000

    def together_ms(self, argvs: Sequence[Sequence[str]]) -> float:
        """All these commands at the same time, until the last has ended."""
        started = time.perf_counter()
        processes = [self.piped(argv, stdout=subprocess.DEVNULL) for argv in argvs]
        codes = [process.wait(TOGETHER_S) for process in processes]
        assert not any(codes), codes
        return (time.perf_counter() - started) * 1000

    def output(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        done = subprocess.run(
            argv,
            env=env or self.env,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout
