"""``/v1/processes/run``: one command, its whole output in the answer, within bounds of size and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agentctl.errors import UsageError
from agentctl.ids import new_id
from agentctl.supervisor.exec.process import marked_tree
from agentctl.supervisor.exec.processes import UserProcesses
from agentctl.supervisor.exec.redaction import RedactedBytes
from agentctl.supervisor.exec.spawn import Spawned, spawn
from agentctl.supervisor.exec.spec import ProcessSpec
from agentctl.supervisor.exec.streams import OutputReader
from agentctl.supervisor.exec.watch import watch
from agentctl.supervisor.processes import ProcessIdentity, end_all

Json = dict[str, Any]


class _Captured:
    """The first so many bytes of a stream."""

    def __init__(self, most: int, secrets: tuple[str, ...]) -> None:
        self._most = most
        self._redacted = RedactedBytes(secrets)
        self._data = bytearray()
        self.truncated = False

    def take(self, data: bytes) -> None:
        self._keep(self._redacted.feed(data))

    def text(self) -> str:
        self._keep(self._redacted.flush())
        return self._data.decode("utf-8", "replace")

    def _keep(self, data: bytes) -> None:
        room = self._most - len(self._data)
        self.truncated = self.truncated or len(data) > room
        self._data += data[:room]


async def run(processes: UserProcesses, spec: ProcessSpec, max_output_bytes: int | None) -> Json:
    """The peer's ProcessRunResponse, and ``signal`` for a killed one. After ``timeoutMs`` the process is killed with
    all that it brought up. Raise as ``UserProcesses.create``."""
    if spec.tty or spec.interactive:
        raise UsageError("A run has no terminal and no input.", hint="Create a process instead: POST /v1/processes")
    processes.check_room()
    limits = processes.limits
    most = min(max_output_bytes or limits.maxOutputBytes, limits.maxOutputBytes)
    timeout_s = min(spec.timeout_ms or limits.defaultRunTimeoutMs, limits.maxRunTimeoutMs) / 1000
    mark = new_id("prc")
    started = time.monotonic()
    spawned = spawn(spec, processes.environment_of(spec, mark), processes.directory_of(spec), durable=False)
    captured = {stream: _Captured(most, processes.secrets) for stream in spawned.outputs}
    readers = [OutputReader(fd, captured[stream].take) for stream, fd in spawned.outputs.items()]
    processes.one_shot(1)
    try:
        timed_out = await _ended(spawned, mark, timeout_s)
        await asyncio.gather(*(reader.drain() for reader in readers))
    finally:
        processes.one_shot(-1)
        for reader in readers:
            reader.let_go()
    code = spawned.popen.returncode
    body = {
        "exitCode": None if timed_out or code is None or code < 0 else code,
        "timedOut": timed_out,
        "stdout": captured["stdout"].text(),
        "stderr": captured["stderr"].text(),
        "stdoutTruncated": captured["stdout"].truncated,
        "stderrTruncated": captured["stderr"].truncated,
        "durationMs": round((time.monotonic() - started) * 1000),
    }
    return body if code is None or code >= 0 else {**body, "signal": -code}


async def _ended(spawned: Spawned, mark: str, timeout_s: float) -> bool:
    """Wait for its end; whether it had to be killed for that."""
    identity = ProcessIdentity.of(spawned.popen.pid)
    assert identity is not None, "an unreaped child always has an identity"
    exited = asyncio.Event()
    stop = watch(identity, _set_when_dead(spawned, exited))
    try:
        await asyncio.wait_for(exited.wait(), timeout_s)
        return False
    except TimeoutError:
        await end_all(marked_tree(identity, mark), grace_s=0)
        with suppress(TimeoutError):
            await asyncio.wait_for(exited.wait(), 1)
        return True
    finally:
        stop()


def _set_when_dead(spawned: Spawned, exited: asyncio.Event) -> Callable[[], bool]:
    def dead() -> bool:
        if spawned.popen.poll() is None:
            return False
        exited.set()
        return True

    return dead
