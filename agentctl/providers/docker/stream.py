"""Requests to an engine that take minutes, as streams: what is sent is made while it is wanted, what comes is read as
it comes, and a cancellation closes the connection: so an engine learns that nobody wants it any more.

The SDK reads such answers in a thread, which cannot be stopped.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import IO, Any

import h11

from agentctl.errors import SandboxError
from agentctl.providers.docker.engine import Engine

Json = dict[str, Any]
_READ_BYTES = 256 * 1024
_WORDS_BYTES = 64 * 1024
_MAX_LINE_BYTES = 16 * 1024 * 1024


class Refused(SandboxError):
    """An answer that says no. ``status`` is HTTP's, ``words`` the engine's own."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


async def lines(
    engine: Engine,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: AsyncGenerator[bytes, None] | None = None,
    silent_s: float,
) -> AsyncGenerator[Json, None]:
    """POST, and yield the JSON objects of the answer. Raise ``Refused``, or ``SandboxError`` for an engine that breaks
    off or says nothing for ``silent_s``."""
    async with aclosing(chunks(engine, "POST", path, headers=headers, body=body, silent_s=silent_s)) as answer:
        rest = b""
        async for chunk in answer:
            *whole, rest = (rest + chunk).split(b"\n")
            if len(rest) > _MAX_LINE_BYTES:
                raise SandboxError(f"The Docker engine at {engine.url} sent a line without an end.")
            for line in filter(bytes.strip, [*whole]):
                yield _object(line)
        if rest.strip():
            yield _object(rest)


def _object(line: bytes) -> Json:
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {}


async def chunks(
    engine: Engine,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: AsyncGenerator[bytes, None] | None = None,
    silent_s: float,
) -> AsyncGenerator[bytes, None]:
    """The same for the bytes of an answer."""
    connection = h11.Connection(h11.CLIENT)
    reader, writer = await engine.dial()
    try:
        async with _sending(connection, writer, method, path, dict(headers or {}), body) as sending:
            status = await _status(connection, reader, engine, sending, silent_s)
            if status >= 400:
                raise Refused(status, await _words(connection, reader, engine, silent_s))
            await sending
            while isinstance(event := await _next(connection, reader, engine, silent_s), h11.Data):
                yield bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                raise _broken(engine)
    except (OSError, h11.RemoteProtocolError) as e:
        raise _broken(engine) from e
    finally:
        writer.close()


@asynccontextmanager
async def _sending(
    connection: h11.Connection,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    headers: dict[str, str],
    body: AsyncGenerator[bytes, None] | None,
) -> AsyncGenerator[asyncio.Task[None], None]:
    """A task that sends the request. The answer may come before its end: an engine refuses without hearing us out."""
    length = {"Content-Length": "0"} if body is None else {"Transfer-Encoding": "chunked"}
    head = h11.Request(method=method, target=path, headers=[*{"Host": "docker", **length, **headers}.items()])

    async def send() -> None:
        async with aclosing(body) if body is not None else aclosing(_nothing()) as content:
            with suppress(ConnectionError):  # the answer says why
                writer.write(connection.send(head) or b"")
                async for chunk in content:
                    writer.write(connection.send(h11.Data(data=chunk)) or b"")
                    await writer.drain()
                writer.write(connection.send(h11.EndOfMessage()) or b"")
                await writer.drain()

    task = asyncio.create_task(send())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _status(
    connection: h11.Connection,
    reader: asyncio.StreamReader,
    engine: Engine,
    sending: asyncio.Task[None],
    silent_s: float,
) -> int:
    """Of the answer, for which the engine waits as long as we send. What stops the sending is raised."""
    answer: Any = None
    while not isinstance(answer, h11.Response):
        answering = asyncio.ensure_future(_next(connection, reader, engine, silent_s))
        try:
            await asyncio.wait([answering, sending], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
            answer = await answering
        finally:
            answering.cancel()
        if isinstance(answer, h11.ConnectionClosed | h11.EndOfMessage):
            raise _broken(engine)
    return int(answer.status_code)


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield b""


async def _next(connection: h11.Connection, reader: asyncio.StreamReader, engine: Engine, silent_s: float) -> Any:
    while (event := connection.next_event()) is h11.NEED_DATA:
        try:
            async with asyncio.timeout(silent_s):
                connection.receive_data(await reader.read(_READ_BYTES))
        except TimeoutError:
            raise SandboxError(f"The Docker engine at {engine.url} said nothing for {silent_s:g} s.") from None
    return event


async def _words(connection: h11.Connection, reader: asyncio.StreamReader, engine: Engine, silent_s: float) -> str:
    said = b""
    while len(said) < _WORDS_BYTES and isinstance(event := await _next(connection, reader, engine, silent_s), h11.Data):
        said += event.data
    return str(_object(said).get("message") or said.decode(errors="replace")).strip()


def _broken(engine: Engine) -> SandboxError:
    return SandboxError(f"The Docker engine at {engine.url} broke off.", hint="Is it still running? `docker version`.")


async def written(write: Callable[[IO[bytes]], None]) -> AsyncGenerator[bytes, None]:
    """What ``write``, in a thread, writes to its file, as fast as it is wanted. When the reader leaves, it gets a
    ``BrokenPipeError``, and has ended before this does."""
    here, there = os.pipe()
    os.set_blocking(here, False)
    reader = asyncio.StreamReader(limit=_READ_BYTES)
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(here, "rb", 0)
    )

    def run() -> None:
        with os.fdopen(there, "wb") as file:
            write(file)

    writing = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        while chunk := await reader.read(_READ_BYTES):
            yield chunk
        await writing
    finally:
        pipe.close()
        await asyncio.wait([writing])
        if not writing.cancelled():
            writing.exception()
