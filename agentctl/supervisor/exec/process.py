"""One process that a user started: its life, its streams, its record on the volume.

The record, ``process.json`` beside the log, holds what another supervisor needs to know the process again: its identity
(boot, pid, start), its mark, its pipes. The values of its environment are not in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentctl.errors import Conflict, DeadlineExceeded, StateError
from agentctl.supervisor.agent_process import PROCESS_ENV
from agentctl.supervisor.exec.log import ProcessLog
from agentctl.supervisor.exec.redaction import RedactedBytes
from agentctl.supervisor.exec.spawn import Spawned, set_size
from agentctl.supervisor.exec.streams import InputWriter, OutputReader
from agentctl.supervisor.exec.watch import watch
from agentctl.supervisor.log.files import said_as_ours
from agentctl.supervisor.processes import ProcessIdentity, end_all, kin

Json = dict[str, Any]
TIMEOUT_GRACE_S = 2.0
INPUT_TIMEOUT_S = 10.0
_HELD_BACK_S = 0.1
_RECORD = "process.json"


@dataclass(slots=True, kw_only=True)
class Record:
    """What is kept of a process. ``identity`` and ``pipes`` (stream → inode) are for the next supervisor."""

    id: str
    command: str
    args: list[str]
    cwd: str
    tty: bool
    interactive: bool
    digest: str
    mark: str
    identity: Json
    pipes: dict[str, int]
    created_at_ms: int
    ends_at_ms: int | None = None
    unattended_ms: int | None = None
    exited_at_ms: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    lost: bool = False

    def write(self, directory: Path) -> None:
        new = directory / f".{_RECORD}.new"
        with said_as_ours(directory, "the record of a process"):
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(json.dumps(asdict(self)).encode())
            new.replace(directory / _RECORD)

    @classmethod
    def read(cls, directory: Path) -> Record | None:
        """None when there is none that can be understood."""
        try:
            data = json.loads((directory / _RECORD).read_bytes())
            record = cls(**{k: v for k, v in data.items() if k in cls.__dataclass_fields__})
            return record if isinstance(record.created_at_ms, int) else None
        except (OSError, ValueError, TypeError, AttributeError):
            return None


def marked_tree(identity: ProcessIdentity, mark: str) -> Callable[[], list[ProcessIdentity]]:
    """A look at the process and at all that it brought up, also what left its group or its tree."""
    known: dict[ProcessIdentity, None] = {identity: None}

    def look() -> list[ProcessIdentity]:
        roots = [process.pid for process in known if process.is_alive()]
        known.update(dict.fromkeys(kin(roots, mark, PROCESS_ENV, since=identity.start_ticks)))
        return [process for process in known if process.is_alive()]

    return look


class UserProcess:
    """See the module. ``exited`` is set at the death of the process itself, ``drained`` when its log is complete."""

    def __init__(self, record: Record, directory: Path, log: ProcessLog) -> None:
        self.record = record
        self.directory = directory
        self.log = log
        self.exited = asyncio.Event()
        self.drained = asyncio.Event()
        self.identity = ProcessIdentity(**record.identity)
        self.tree = marked_tree(self.identity, record.mark)
        self._viewers = 0
        self._unattended: asyncio.TimerHandle | None = None
        self._spawned: Spawned | None = None
        self._input: InputWriter | None = None
        self._readers: dict[str, OutputReader] = {}
        self._redacted: dict[str, RedactedBytes] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._unwatch: Callable[[], None] = lambda: None

    @property
    def is_running(self) -> bool:
        return not self.exited.is_set()

    def run(self, spawned: Spawned, secrets: tuple[str, ...]) -> None:
        """Take over a process that we just started."""
        self._spawned = spawned
        if spawned.stdin is not None:
            self._input = InputWriter(spawned.stdin)
        self.attend(spawned.outputs, secrets)

    def attend(self, outputs: dict[str, int], secrets: tuple[str, ...]) -> None:
        """Read its output, watch for its end and for its timeout."""
        for stream, fd in outputs.items():
            self._redacted[stream] = RedactedBytes(secrets)
            self._readers[stream] = OutputReader(fd, self._taker(stream), self.log.must_wait)
        self._unwatch = watch(self.identity, self._dead)
        if self.record.ends_at_ms is not None:
            left_s = self.record.ends_at_ms / 1000 - time.time()
            self._timer = asyncio.get_running_loop().call_later(max(left_s, 0), self._time_out)
        self._watch_viewers()

    def viewer_came(self) -> None:
        self._viewers += 1
        if self._unattended is not None:
            self._unattended.cancel()

    def viewer_left(self) -> None:
        """Whoever asked for it has a terminal hung up that nobody views."""
        self._viewers -= 1
        self._watch_viewers()

    def _watch_viewers(self) -> None:
        if self._viewers == 0 and self.record.unattended_ms is not None and self.is_running:
            self._unattended = asyncio.get_running_loop().call_later(
                self.record.unattended_ms / 1000, self.begin_end, signal.SIGHUP, TIMEOUT_GRACE_S
            )

    def set_lost(self) -> None:
        """It ended while nobody watched: how, nobody knows."""
        self.record.lost = True
        self._exited()
        self.log.end()
        self.drained.set()

    async def write(self, data: bytes, *, end: bool = False) -> int:
        """Give it input; how much it took within 10 s. ``end`` closes its stdin after that, or types Ctrl-D. Raise
        ``Conflict`` when it has no input or has ended."""
        if not self.is_running:
            raise Conflict(f"Process {self.record.id} has ended.", hint="Its output is still there: read its logs.")
        if self._input is None:
            raise Conflict(
                f"Process {self.record.id} was started without input.", hint="Start it with interactive or tty."
            )
        done = await self._input.write(data, INPUT_TIMEOUT_S)
        if end and done == len(data):
            if self.record.tty:
                await self._input.write(b"\x04", INPUT_TIMEOUT_S)
            else:
                self._input.close()
        return done

    def resize(self, rows: int, cols: int) -> None:
        """Raise ``Conflict`` when it has no terminal or has ended."""
        if not self.record.tty:
            raise Conflict(f"Process {self.record.id} has no terminal.", hint="Start it with tty.")
        if self._spawned is None or not self.is_running:
            raise Conflict(f"Process {self.record.id} has ended.")
        set_size(self._spawned.outputs["pty"], rows, cols)

    def send_signal(self, number: int) -> None:
        """To the process and to all that it brought up."""
        for process in self.tree():
            process.signal(number)
            process.signal(signal.SIGCONT)  # a stopped one would never hear it

    async def end(self, first: int, grace_s: float) -> None:
        """The signal ``first`` to all of it, KILL to what is left after ``grace_s``; return when all is dead. What
        outlives the process itself gets TERM for the rest of that time. Raise ``DeadlineExceeded``."""
        deadline = time.monotonic() + grace_s
        if first != signal.SIGTERM:
            self.send_signal(first)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.exited.wait(), grace_s)
        survivors = await end_all(self.tree, grace_s=max(deadline - time.monotonic(), 0))
        with suppress(TimeoutError):
            await asyncio.wait_for(self.exited.wait(), 1)
        if survivors and self.is_running:
            raise DeadlineExceeded(f"Process {self.record.id} could not be ended: it hangs in the kernel.")

    def begin_end(self, first: int, grace_s: float) -> asyncio.Task[None]:
        """``end``, by us rather than by the one who asked, who may go away."""
        task = asyncio.get_running_loop().create_task(self.end(first, grace_s))
        self._keep(task)
        return task

    def close(self) -> None:
        """Let go of everything, at the end of the supervisor."""
        self._unwatch()
        self._cancel_timers()
        for task in self._tasks:
            task.cancel()
        for reader in self._readers.values():
            reader.close()
        if self._input is not None:
            self._input.close()
        self.log.end()

    def _taker(self, stream: str) -> Callable[[bytes], None]:
        redacted, loop = self._redacted[stream], asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def flush() -> None:
            self.log.append(stream, redacted.flush())

        def take(data: bytes) -> None:
            nonlocal timer
            if timer is not None:
                timer.cancel()
                timer = None
            self.log.append(stream, redacted.feed(data))
            if redacted.waits:  # a prompt that ends like a secret begins is shown all the same
                timer = loop.call_later(_HELD_BACK_S, flush)

        return take

    def _time_out(self) -> None:
        self.record.timed_out = True
        self.begin_end(signal.SIGTERM, TIMEOUT_GRACE_S)

    def _dead(self) -> bool:
        if self._spawned is not None:
            code = self._spawned.popen.poll()
            if code is None:
                return False
            self.record.exit_code = code if code >= 0 else None
            self.record.signal = -code if code < 0 else None
        else:
            self.record.lost = True  # it was the child of a supervisor that is gone: its exit code went with that
        self._exited()
        self._keep(asyncio.get_running_loop().create_task(self._drain()))
        return True

    def _exited(self) -> None:
        self.record.exited_at_ms = int(time.time() * 1000)
        with suppress(StateError):  # a full disk: the next supervisor will say that it was lost
            self.record.write(self.directory)
        self.exited.set()
        self._cancel_timers()

    def _cancel_timers(self) -> None:
        for timer in (self._timer, self._unattended):
            if timer is not None:
                timer.cancel()

    async def _drain(self) -> None:
        await asyncio.gather(*(reader.drain() for reader in self._readers.values()))
        for stream, reader in self._readers.items():
            reader.let_go()
            self.log.append(stream, self._redacted[stream].flush())
        if self._input is not None:
            self._input.close()
        if self.record.tty:
            for reader in self._readers.values():
                reader.close()  # whoever is still on the terminal is hung up, as by any terminal that closes
        self.log.end()
        self.drained.set()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
