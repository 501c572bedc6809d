"""Streams into a container: its own stdin and stdout (the two lines of a start), a bridge to the supervisor's socket.

Without a terminal the engine sends both output streams in frames: one byte that says which, three zeros, the length as
32 bits in network order, and the bytes.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, cast

from agentctl.errors import AgentctlError, NotFound, SandboxError, SupervisorUnreachable
from agentctl.providers.docker.container import LAYOUT, SOCKET
from agentctl.providers.docker.engine import Engine
from agentctl.wire import Boot, Ready

_STDERR = 2
TAIL_BYTES = 4000
_BUFFER_BYTES = 1024 * 1024


class _Gate:
    """Stands where a ``StreamReader`` wants a transport: lets it hold up whoever feeds it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def pause_reading(self) -> None:
        self.open.clear()

    def resume_reading(self) -> None:
        self.open.set()


class Framed:
    """The two sides of a container's streams: ``stdout`` to read, ``writer`` for its stdin, the end of stderr."""

    def __init__(self, raw: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.stdout = asyncio.StreamReader(limit=_BUFFER_BYTES)
        self.writer = writer
        self.stderr = b""
        self._raw = raw
        self._gate = _Gate()
        self.stdout.set_transport(cast("Any", self._gate))
        self._pump = asyncio.create_task(self._run())

    async def _run(self) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await self._raw.readexactly(8)
                data = await self._raw.readexactly(int.from_bytes(head[4:], "big"))
                if head[0] == _STDERR:
                    self.stderr = (self.stderr + data)[-TAIL_BYTES:]
                    continue
                await self._gate.open.wait()
                self.stdout.feed_data(data)
        self.stdout.feed_eof()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pump.cancel()
        self.writer.close()


async def attach(engine: Engine, container: str) -> Framed:
    """The container's own streams. To be called before its start, or its first words are missed."""
    return Framed(*await engine.hijack(f"/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1"))


async def boot_up(talk: Framed, boot: Boot, timeout_s: float) -> Ready:
    """Tell a started supervisor what it is for; return when it listens. Raise ``SandboxError`` with the end of its
    stderr when it dies first or is not ready in time."""
    try:
        async with asyncio.timeout(timeout_s):
            with suppress(OSError):  # it died: the missing Ready line tells
                talk.writer.write(boot.to_line())
                await talk.writer.drain()
            line = await talk.stdout.readline()
    except TimeoutError:
        raise _failed(talk, boot, f"was not ready within {timeout_s:g} s") from None
    if not line.endswith(b"\n"):
        raise _failed(talk, boot, "ended before it was ready")
    try:
        return Ready.from_line(line)
    except (ValueError, TypeError):
        raise _failed(talk, boot, "said something else than Ready") from None


def _failed(talk: Framed, boot: Boot, what: str) -> SandboxError:
    tail = talk.stderr.decode(errors="replace")
    for secret in filter(None, (boot.token, *boot.secrets)):
        tail = tail.replace(secret, "[redacted]")
    last = next((line for line in reversed(tail.splitlines()) if line.strip()), "")
    return SandboxError(
        f"The supervisor {what}{': ' + last.strip() if last else '.'}",
        hint="`--json` shows the end of the supervisor's log.",
        details={"log": tail},
    )


async def bridge(engine: Engine, container: str, python: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One stream to the supervisor's socket through a process in the container. Raise ``SupervisorUnreachable``."""
    argv = [python, "-IS", f"{LAYOUT.runtime}/__main__.py", "bridge", SOCKET]

    def make(api: Any) -> str:
        made = api.exec_create(container, argv, stdin=True, stdout=True, stderr=True, user="0:0")
        return str(made["Id"])

    try:
        made = await engine.call("start a bridge", make)
        raw, writer = await engine.hijack(f"/exec/{made}/start", {"Detach": False, "Tty": False})
    except (NotFound, AgentctlError) as e:
        raise SupervisorUnreachable(
            f"The supervisor cannot be reached: {e.message}", hint="The next message to its session brings a new one."
        ) from e
    return Framed(raw, writer).stdout, writer
