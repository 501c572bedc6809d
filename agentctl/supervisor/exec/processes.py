"""The processes that users start in a sandbox, by their ids: started, found again, listed, ended, forgotten.

Each has a directory ``<log root>/processes/<id>/``. They run in the sandbox's environment with a mark of their own, and
end with the sandbox like everything in it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentctl.errors import AlreadyExists, Conflict, ProcessNotFound, SandboxError, StateError, UsageError
from agentctl.ids import new_id
from agentctl.supervisor.agent_process import PROCESS_ENV
from agentctl.supervisor.exec.log import ProcessLog
from agentctl.supervisor.exec.process import Record, UserProcess
from agentctl.supervisor.exec.spawn import Spawned, spawn
from agentctl.supervisor.exec.spec import Limits, ProcessSpec
from agentctl.supervisor.process_table import environment
from agentctl.supervisor.processes import ProcessIdentity
from agentctl.supervisor.supervisor import PROCESSES, Supervisor
from agentctl.wire import SANDBOX_ENV, Boot

Json = dict[str, Any]
KEPT = 256
"""So many ended processes are remembered; the oldest go first, with their logs."""

_LEAVE_GRACE_S = 2.0
LAST_WORDS_S = 1.0


class UserProcesses:
    """All of one sandbox. Make it in the running loop: it finds what an earlier supervisor left."""

    @classmethod
    def of(cls, supervisor: Supervisor) -> UserProcesses:
        """Those of this supervisor, which knows from then on that they are activity and must end."""
        if supervisor.user_processes is None:
            supervisor.user_processes = made = cls(supervisor)
            supervisor.activities.append(made.is_busy)
            supervisor.closers.append(made.close)
        return supervisor.user_processes

    def __init__(self, supervisor: Supervisor) -> None:
        self.limits = Limits()
        self._supervisor = supervisor
        self._root = Path(supervisor.boot.log_root) / PROCESSES
        self._table: dict[str, UserProcess] = {}
        self._one_shots = 0
        self._closed = False
        self._number = 0
        for record, directory in _records(self._root):
            with suppress(StateError, TypeError, KeyError, ValueError):  # whoever runs here may have written over it
                self._adopt(record, directory)

    def is_busy(self) -> bool:
        """Whether any runs: that is activity of the sandbox."""
        return self._one_shots > 0 or any(process.is_running for process in self._table.values())

    def listing(self) -> list[UserProcess]:
        """Oldest first."""
        return list(self._table.values())

    def get(self, process_id: str) -> UserProcess:
        """Raise ``ProcessNotFound``."""
        try:
            return self._table[process_id]
        except KeyError:
            raise ProcessNotFound(
                f"There is no process {process_id[:80]} in this sandbox.",
                hint="See those that there are: agentctl sessions processes list SESSION",
            ) from None

    def create(self, spec: ProcessSpec, process_id: str | None = None) -> UserProcess:
        """Start one. With an id that is taken: the one that is there, if it was asked for in the same way.

        Raise ``AlreadyExists``, ``Conflict`` over the limit, ``SpawnFailed``, ``UsageError``, ``DiskFull``; nothing is
        left then.
        """
        if process_id is not None and process_id in self._table:
            return self._same(process_id, spec)
        self.check_room()
        self._supervisor.hide(spec.secrets)
        process_id = process_id or self._next_id()
        directory = self._root / process_id
        log = ProcessLog(directory, self.limits.maxLogBytesPerProcess)
        spawned: Spawned | None = None
        try:
            mark, cwd = new_id("prc"), self.directory_of(spec)
            spawned = spawn(spec, self.environment_of(spec, mark), cwd, durable=True)
            record = self._record(process_id, spec, spawned, mark, cwd)
            record.write(directory)
        except BaseException:
            log.end()
            if spawned is not None:
                _undo(spawned)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        process = self._table[process_id] = UserProcess(record, directory, log)
        if spec.attach:
            log.expect()
        process.run(spawned, self.secrets)
        self._forget_oldest()
        return process

    def delete(self, process_id: str) -> None:
        """Forget an ended process with its logs. Raise ``Conflict`` while it runs."""
        process = self.get(process_id)
        if process.is_running:
            raise Conflict(
                f"Process {process_id} is running.",
                hint=f"End it first: agentctl sessions processes cancel SESSION {process_id}",
            )
        self._forget(process)

    def info(self, process: UserProcess) -> Json:
        """The peer's ProcessInfo, and what is ours: ``signal``, ``lost``, ``timedOut``, ``logs`` (paths)."""
        record = process.record
        streams = ("pty",) if record.tty else ("stdout", "stderr")
        body: Json = {
            "id": record.id,
            "command": record.command,
            "args": record.args,
            "cwd": record.cwd,
            "tty": record.tty,
            "interactive": record.interactive,
            "owner": "user",
            "status": "running" if process.is_running else "exited",
            "createdAtMs": record.created_at_ms,
            "timedOut": record.timed_out,
            "lost": record.lost,
            "logs": {stream: str(process.directory / f"{stream}.log") for stream in streams},
        }
        if process.is_running:
            return {**body, "pid": record.identity["pid"]}
        ended = {"exitCode": record.exit_code, "signal": record.signal, "exitedAtMs": record.exited_at_ms}
        return {**body, **{name: value for name, value in ended.items() if value is not None}}

    def check_room(self) -> None:
        """Raise ``Conflict`` when no other process may be started, ``SandboxError`` at the end of all."""
        if self._closed:
            raise SandboxError("This sandbox is ending.")
        running = self._one_shots + sum(process.is_running for process in self._table.values())
        if running >= self.limits.maxConcurrentProcesses:
            raise Conflict(
                f"{running} processes run already, which is the limit.",
                hint="End some, or raise maxConcurrentProcesses at /v1/processes/config.",
            )

    def one_shot(self, change: int) -> None:
        """Count a ``run`` that begins (1) or ends (-1)."""
        self._one_shots += change

    def environment_of(self, spec: ProcessSpec, mark: str) -> dict[str, str]:
        terminal = {"TERM": "xterm-256color"} if spec.tty else {}
        own = {SANDBOX_ENV: self._boot.sandbox_id, PROCESS_ENV: mark}
        session = self._supervisor.sessions.get(spec.session) if spec.session else None
        of_session = session.request.env if session else {}
        return {**self._boot.agent_env, **terminal, **of_session, **spec.env, **own}

    def directory_of(self, spec: ProcessSpec) -> str:
        """Relative paths are below HOME."""
        return os.path.join(self._boot.home, spec.cwd) if spec.cwd else self._boot.home

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown, as it is known now."""
        return (*self._boot.secrets, self._boot.token)

    @property
    def _boot(self) -> Boot:
        return self._supervisor.boot

    async def close(self) -> None:
        """End all, in good order and then the hard way; their records say how they ended."""
        self._closed = True
        running = [process for process in self._table.values() if process.is_running]
        ends = (process.end(signal.SIGTERM, _LEAVE_GRACE_S) for process in running)
        await asyncio.gather(*ends, return_exceptions=True)  # one that hangs in the kernel must not hold up the rest
        with suppress(TimeoutError):  # a follower may be slow
            await asyncio.wait_for(asyncio.gather(*(p.drained.wait() for p in self._table.values())), LAST_WORDS_S)
        for process in self._table.values():
            process.close()

    def _same(self, process_id: str, spec: ProcessSpec) -> UserProcess:
        process = self._table[process_id]
        if process.record.digest != spec.digest():
            raise AlreadyExists(
                f"Process {process_id} exists already, with another command, directory, environment or options.",
                hint="Choose another id, or delete that one first.",
            )
        return process

    def _record(self, process_id: str, spec: ProcessSpec, spawned: Spawned, mark: str, cwd: str) -> Record:
        identity = ProcessIdentity.of(spawned.popen.pid)
        assert identity is not None, "an unreaped child always has an identity"
        now = int(time.time() * 1000)
        return Record(
            id=process_id,
            command=self._shown(spec.command),
            args=[self._shown(arg) for arg in spec.args],
            cwd=cwd,
            tty=spec.tty,
            interactive=spec.interactive,
            digest=spec.digest(),
            mark=mark,
            identity={name: getattr(identity, name) for name in ("pid", "start_ticks", "boot_id")},
            pipes={stream: os.fstat(fd).st_ino for stream, fd in spawned.outputs.items() if not spec.tty},
            created_at_ms=now,
            ends_at_ms=None if spec.timeout_ms is None else now + spec.timeout_ms,
            unattended_ms=spec.unattended_ms,
        )

    def _shown(self, text: str) -> str:
        redact = self._supervisor.redact
        if redact is None:
            return text
        return redact(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def _next_id(self) -> str:
        while True:
            self._number += 1
            if f"proc_{self._number}" not in self._table:
                return f"proc_{self._number}"

    def _adopt(self, record: Record, directory: Path) -> None:
        """Know a process again that an earlier supervisor started."""
        self._table[record.id] = process = UserProcess(
            record, directory, ProcessLog(directory, self.limits.maxLogBytesPerProcess)
        )
        if record.id.startswith("proc_") and record.id[5:].isdecimal():
            self._number = max(self._number, int(record.id[5:]))
        if record.exited_at_ms is not None:
            process.exited.set()
            process.log.end()
            process.drained.set()
        elif process.identity.is_alive() and _bears(process.identity.pid, record.mark):
            process.attend(_reopened(process.identity.pid, record.pipes), self.secrets)
        else:
            process.set_lost()

    def _forget_oldest(self) -> None:
        ended = [process for process in self._table.values() if not process.is_running and process.drained.is_set()]
        for process in ended[: max(0, len(ended) - KEPT)]:
            self._forget(process)

    def _forget(self, process: UserProcess) -> None:
        process.log.end()
        self._table.pop(process.record.id, None)
        shutil.rmtree(process.directory, ignore_errors=True)


def _records(root: Path) -> Iterator[tuple[Record, Path]]:
    """What earlier supervisors noted, oldest first."""
    found = []
    with suppress(OSError):
        for directory in root.iterdir():
            record = Record.read(directory)
            if record is not None and record.id == directory.name:
                found.append((record, directory))
    return iter(sorted(found, key=lambda pair: pair[0].created_at_ms))


def _bears(pid: int, mark: str) -> bool:
    """Whether that process was started with this mark: a pid means something else in another container."""
    values = environment(pid)
    return values is not None and f"\0{PROCESS_ENV}={mark}\0".encode() in values


def _reopened(pid: int, pipes: dict[str, int]) -> dict[str, int]:
    """Our ends of a process's output once more, where it still has the pipes that it was started with."""
    found = {}
    for stream, number in (("stdout", 1), ("stderr", 2)):
        with suppress(OSError):
            path = f"/proc/{pid}/fd/{number}"
            status = os.stat(path)
            if stat.S_ISFIFO(status.st_mode) and status.st_ino == pipes.get(stream):
                found[stream] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return found


def _undo(spawned: Spawned) -> None:
    """Kill what was started a moment ago: it cannot be kept account of."""
    spawned.popen.kill()
    spawned.popen.wait()
    for fd in filter(None, (spawned.stdin, *spawned.outputs.values())):
        os.close(fd)


def owner(text: str | None) -> bool:
    """Whether the processes of that owner are ours to list. Raise ``UsageError`` for an unknown owner."""
    if text in (None, "", "user"):
        return True
    if text in ("desktop", "system"):
        return False
    raise UsageError(f"owner cannot be {text[:40]!r}: it is user, desktop or system.")
