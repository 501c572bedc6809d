"""One agent's process: its pipes, its stderr kept within bounds, the true moment of its death, and its whole end."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from agentctl.errors import AgentStartFailed
from agentctl.ids import new_id
from agentctl.supervisor.cgroups import oom_kills
from agentctl.supervisor.log.files import said_as_ours
from agentctl.supervisor.processes import ProcessIdentity, end_all, kin, reap
from agentctl.supervisor.redaction import Redact
from agentctl.supervisor.stderr_file import StderrFile
from agentctl.wire import MAX_LINE_BYTES

Json = dict[str, Any]

PROCESS_ENV = "AGENTCTL_PROCESS_ID"
"""Every process of one agent carries this variable: an agent is stopped without touching another of its sandbox."""

_PIPE_BYTES = 1024 * 1024
_POLL_S = 0.05
_TERM_GRACE_S = 2.0


class Ending(NamedTuple):
    """How an agent ended: what it took, its exit code (negative: killed by that signal), and who would not die."""

    how: Literal["exited", "terminated", "killed"]
    exit_code: int | None
    survivors: list[ProcessIdentity]


class AgentProcess:
    """A started agent.

    ``stdin`` and ``stdout`` are its pipes; ``exit_code`` resolves as soon as the process is dead, even when a
    grandchild holds its pipes (negative: killed by that signal). By then all that it wrote to stderr is in the summary.
    """

    identity: ProcessIdentity
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    exit_code: asyncio.Future[int]

    @classmethod
    async def spawn(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | Path,
        stderr_path: Path,
        redact: Redact | None = None,
    ) -> AgentProcess:
        """Start ``argv`` in its own session with exactly ``env`` and a mark of its own (``AGENTCTL_PROCESS_ID``).
        Raise ``AgentStartFailed`` naming ``argv[0]``, or ``StateError`` when there is no place for its stderr.
        """
        mark = new_id("prc")
        with said_as_ours(stderr_path, "the agent's stderr"):
            stderr = StderrFile(stderr_path, redact)
        try:
            popen = _start(argv, {**env, PROCESS_ENV: mark}, str(cwd))
        except AgentStartFailed:
            stderr.close()
            raise
        self = cls(popen, mark, stderr)
        try:
            await self._connect()
        except BaseException:
            popen.kill()
            await asyncio.shield(self.stop(0))
            raise
        return self

    def __init__(self, popen: subprocess.Popen[bytes], mark: str, stderr: StderrFile) -> None:
        """For ``spawn`` only."""
        self._loop = asyncio.get_running_loop()
        self._popen = popen
        self._mark = mark
        self._stderr = stderr
        self._stderr_pipe = _pipe(popen.stderr)
        self._stdout_transport: asyncio.BaseTransport | None = None
        self._stdout_lost = asyncio.Event()
        self._stdin_lost = asyncio.Event()
        self._known: dict[ProcessIdentity, None] = {}
        self._oom_kills = oom_kills()
        self._stopping: asyncio.Task[Ending] | None = None
        identity = ProcessIdentity.of(popen.pid)
        assert identity is not None, "an unreaped child always has an identity"
        self.identity = identity
        self.exit_code = self._loop.create_future()
        os.set_blocking(self._stderr_pipe.fileno(), False)
        self._loop.add_reader(self._stderr_pipe.fileno(), self._read_stderr)
        self._watch()

    @property
    def pid(self) -> int:
        return self.identity.pid

    def stderr_summary(self) -> Json:
        """``{"head", "tail", "truncated", "total_lines"}`` of stderr so far: the first 20 and the last 50 lines; when
        there are no more than 70, all are in ``head`` and ``tail`` is null.
        """
        return self._stderr.summary()

    @property
    def lacked_memory(self) -> bool:
        """Whether the kernel has killed processes of the sandbox since, because its memory was full."""
        return oom_kills() > self._oom_kills

    def tree(self) -> list[ProcessIdentity]:
        """The agent and every living process that it brought up, also those that left its tree."""
        roots = [process.pid for process in (self.identity, *self._known) if process.is_alive()]
        found = [self.identity, *kin(roots, self._mark, PROCESS_ENV, since=self.identity.start_ticks)]
        self._known.update(dict.fromkeys(found))
        return [process for process in self._known if process.is_alive()]

    async def stop(self, grace_s: float) -> Ending:
        """Close stdin, wait up to ``grace_s``, then TERM (and again up to 2 s) and KILL all of ``tree()``. Nothing
        of it is alive afterwards but the survivors. Idempotent: every caller gets the one ending."""
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._stop(grace_s))
        return await asyncio.shield(self._stopping)

    async def _stop(self, grace_s: float) -> Ending:
        self.tree()
        if hasattr(self, "stdin"):
            self.stdin.close()
        await asyncio.wait([self.exit_code], timeout=grace_s)
        exited = self.exit_code.done()
        survivors = await end_all(self.tree, grace_s=_TERM_GRACE_S)
        await asyncio.wait([self.exit_code], timeout=1)
        await self._release()
        code = self.exit_code.result() if self.exit_code.done() else None
        if exited:
            return Ending("exited", code, survivors)
        return Ending("killed" if code in (None, -signal.SIGKILL) else "terminated", code, survivors)

    async def _connect(self) -> None:
        stdout, stdin = _pipe(self._popen.stdout), _pipe(self._popen.stdin)
        self.stdout = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        protocol = _LosingProtocol(self.stdout, self._stdout_lost)
        self._stdout_transport, _ = await self._loop.connect_read_pipe(lambda: protocol, stdout)
        unread = _LosingProtocol(asyncio.StreamReader(), self._stdin_lost)
        transport, _ = await self._loop.connect_write_pipe(lambda: unread, stdin)
        self.stdin = asyncio.StreamWriter(transport, unread, None, self._loop)

    def _watch(self) -> None:
        """Learn of the death from the process itself: a pipe that a grandchild holds says nothing."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            self._loop.call_later(_POLL_S, self._poll)
        else:
            self._loop.add_reader(pidfd, self._dead, pidfd)

    def _poll(self) -> None:
        if self._popen.poll() is None:
            self._loop.call_later(_POLL_S, self._poll)
        else:
            self._dead(None)

    def _dead(self, pidfd: int | None) -> None:
        code = self._popen.poll()
        if code is None:
            return
        if pidfd is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
        self._read_stderr()
        if not self.exit_code.done():
            self.exit_code.set_result(code)

    def _read_stderr(self) -> None:
        """Take what is there, up to a pipe's fill, so that a flood cannot starve the loop."""
        for _ in range(4):
            if self._stderr_pipe.closed:
                return
            try:
                data = os.read(self._stderr_pipe.fileno(), 256 * 1024)
            except BlockingIOError:
                return
            if not data:
                self._close_stderr()
                return
            self._stderr.feed(data)

    def _close_stderr(self) -> None:
        if not self._stderr_pipe.closed:
            self._loop.remove_reader(self._stderr_pipe.fileno())
            self._stderr_pipe.close()
        self._stderr.close()

    async def _release(self) -> None:
        """Reap what we adopted, and let go of the pipes: the last frames are read first, if anyone reads."""
        for process in self._known:
            if process != self.identity:
                reap(process.pid)
        if self._stdout_transport is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stdout_lost.wait(), 0.5)
            self._stdout_transport.close()
        if hasattr(self, "stdin") and not self._stdin_lost.is_set():
            self.stdin.transport.abort()  # what the agent never read would keep the pipe open
        self._read_stderr()
        self._close_stderr()


class _LosingProtocol(asyncio.StreamReaderProtocol):
    """Says when the pipe has ended."""

    def __init__(self, reader: asyncio.StreamReader, lost: asyncio.Event) -> None:
        super().__init__(reader)
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost.set()


def _start(argv: Sequence[str], env: dict[str, str], cwd: str) -> subprocess.Popen[bytes]:
    if not argv:
        raise AgentStartFailed("Cannot start an agent: its command is empty.", hint="Give a program first.")
    pipe = subprocess.PIPE
    try:
        popen = subprocess.Popen(
            argv, env=env, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
        )
    except (OSError, ValueError) as e:
        raise _start_failure(argv[0], cwd, e) from e
    with suppress(OSError, AttributeError):  # a burst needs fewer switches; a limit of the user may forbid it
        fcntl.fcntl(_pipe(popen.stdout), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return popen


def _start_failure(program: str, cwd: str, error: OSError | ValueError) -> AgentStartFailed:
    if not os.path.isdir(cwd):
        return AgentStartFailed(
            f"Cannot start {program}: its working directory {cwd} does not exist.",
            hint="Create the directory, or choose another with --cwd.",
        )
    if isinstance(error, ValueError):
        return AgentStartFailed(f"Cannot start {program}: {error}.", hint="Check its arguments and environment.")
    if error.errno == errno.ENOENT and os.path.exists(program):
        return AgentStartFailed(
            f"Cannot start {program}: the interpreter that its first line names is missing.",
            hint="Install that interpreter, or install the agent again.",
        )
    hints = {
        errno.ENOENT: "Install the agent (agentctl agents install NAME), or give the program's full path.",
        errno.EACCES: f"Make it executable: chmod +x {program}",
        errno.ENOEXEC: "It is not a program for this machine, or a script without a #! line.",
    }
    reason = "not found" if error.errno == errno.ENOENT else (error.strerror or str(error))
    hint = hints.get(error.errno or 0, "Try to start it by hand.")
    return AgentStartFailed(f"Cannot start {program}: {reason}.", hint=hint)


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "all three streams are pipes"
    return pipe
