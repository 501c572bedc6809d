"""A command's streams on ours: its output as it comes, our stdin as it is taken, our signals as its own."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import Any

from agentctl.cli.exec_exit import FAILED
from agentctl.cli.interrupts import Interrupts
from agentctl.cli.output import Output, ReaderGone
from agentctl.errors import AgentctlError, Conflict, StateError
from agentctl.ops import exec as ops
from agentctl.ops.app import App
from agentctl.ops.own import Ref
from agentctl.supervisor_client.processes import Ended, Missing
from agentctl.supervisor_client.processes import Output as Piece

Json = dict[str, Any]
GRACE_S = 2.0
JSON_BYTES = 1024 * 1024
"""So much of each stream is in a ``--json`` result; all of it is in the logs."""

_READ_BYTES = 64 * 1024


async def exec_here(app: App, session: Ref, asked: ops.Command, out: Output, interrupts: Interrupts) -> int:
    """Run it and return what to exit with. Raise as ``ops.started``, or ``ReaderGone``."""
    async with ops.started(app, session, asked, out.step) as started:
        out.step("")
        ending = _Ending(started)
        interrupts.handler = ending.on_signal
        sink: _Collected | _Written = _Collected() if out.json else _Written()
        feeding = asyncio.create_task(_feed(started)) if asked.interactive else None
        try:
            info = await _followed(started, sink, out)
        except (ReaderGone, StateError):
            await ending.end(signal.SIGPIPE)
            raise
        finally:
            if feeding is not None:
                feeding.cancel()
            await ending.settled()
        code = ops.exit_code(info)
        if isinstance(sink, _Collected):
            out.envelope(_result(info, code, sink))
        _tell_end(info, code, out)
        return interrupts.code or (FAILED if code is None else code)


async def _followed(started: ops.Started, sink: _Collected | _Written, out: Output) -> Json:
    """Pass its output on until it has ended."""
    async with aclosing(started.processes.follow(started.id, attach=True)) as batches:
        async for batch in batches:
            for told in batch:
                if isinstance(told, Ended):
                    return told.info
                if isinstance(told, Missing):
                    out.story(missing_text(told), "warning")
                else:
                    await sink.take(told)
    return await started.processes.get(started.id)


def missing_text(told: Missing) -> str:
    if told.lost is not None:
        return f"{told.lost} bytes of output are missing: the sandbox's disk had no room for them."
    return f"Earlier output is not kept any more: it begins with piece {told.first}."


def _tell_end(info: Json, code: int | None, out: Output) -> None:
    if info.get("timedOut"):
        out.story("The command was ended: its time was up.", "warning")
    elif code is None:
        out.story("How the command ended is not known: its supervisor was restarted meanwhile.", "warning")


class _Ending:
    """Ends the command for a signal of ours: the same signal to all of it, KILL after a while; a second one kills."""

    def __init__(self, started: ops.Started) -> None:
        self._started = started
        self._tasks: list[asyncio.Task[Any]] = []

    def on_signal(self, number: signal.Signals, count: int) -> None:
        self._tasks.append(asyncio.create_task(self.end(number) if count == 1 else self.end(signal.SIGKILL)))

    async def end(self, number: signal.Signals) -> None:
        with suppress(AgentctlError):  # it has ended by itself, or its sandbox is gone
            grace_s = 0 if number == signal.SIGKILL else GRACE_S
            await self._started.processes.stop(self._started.id, signal=number.name, grace_s=grace_s)

    async def settled(self) -> None:
        await asyncio.gather(*self._tasks)


async def _feed(started: ops.Started) -> None:
    """Our stdin to the command's, to its end, or until it reads no more."""
    loop = asyncio.get_running_loop()
    reader = ThreadPoolExecutor(1)  # not the loop's own, for which its end would wait
    with suppress(Conflict):
        while data := await loop.run_in_executor(reader, _read_stdin):
            await started.processes.write(started.id, data)
        await started.processes.write(started.id, b"", end=True)


def _read_stdin() -> bytes:
    try:
        return os.read(sys.stdin.fileno(), _READ_BYTES)
    except OSError:
        return b""


class _Written:
    """Output to where it belongs, unchanged."""

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1)  # a reader that rests must not keep our signals from us

    async def take(self, piece: Piece) -> None:
        fd = sys.stderr.fileno() if piece.stream == "stderr" else sys.stdout.fileno()
        await asyncio.get_running_loop().run_in_executor(self._writer, _write_all, fd, piece.data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as e:
        if e.errno in (errno.EPIPE, errno.EIO):
            raise ReaderGone from e
        raise StateError(f"Cannot write the output: {e.strerror}.") from e


class _Collected:
    """The first part of each stream, for one JSON object."""

    def __init__(self) -> None:
        self._data: dict[str, bytearray] = {}
        self._truncated: set[str] = set()

    async def take(self, piece: Piece) -> None:
        data = self._data.setdefault(piece.stream, bytearray())
        room = JSON_BYTES - len(data)
        if len(piece.data) > room:
            self._truncated.add(piece.stream)
        data += piece.data[:room]

    def fields(self, stream: str) -> Json:
        """Text where it is text, else base64, which ``<stream>_encoding`` says."""
        data = bytes(self._data.get(stream, b""))
        try:
            text, encoding = data.decode(), "utf-8"
        except UnicodeDecodeError:
            text, encoding = base64.b64encode(data).decode(), "base64"
        return {
            stream: text,
            f"{stream}_encoding": encoding,
            f"{stream}_truncated": stream in self._truncated,
        }


def _result(info: Json, code: int | None, collected: _Collected) -> Json:
    return {
        "id": info["id"],
        "exit_code": code,
        "signal": info.get("signal"),
        "timed_out": info["timedOut"],
        "lost": info["lost"],
        **collected.fields("stdout"),
        **collected.fields("stderr"),
        "duration_ms": info["exitedAtMs"] - info["createdAtMs"],
        "logs": info["logs"],
    }
