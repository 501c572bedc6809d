"""HTTP/1.1 by h11 on the streams that a provider opens; a stream whose answer was read to its end is used again.

httpcore does this as well, but what it imports for other uses (HTTP/2, proxies, threads, anyio) takes a sixth of the
CPU time of a whole ``run``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import h11

from agentctl.providers.base import Dial

Headers = list[tuple[bytes, bytes]]

MOST_STREAMS = 8
WAIT_FOR_STREAM_S = 5.0

_READ_BYTES = 1024 * 1024
_HEAD_BYTES = 100 * 1024


T = TypeVar("T")


class Broken(Exception):
    """No stream was free or open in time, or it broke, or what came over it is no answer."""


class _NotTaken(Broken):
    """The other side reads no more; it may have said why."""


class Response:
    """``headers`` have lower-case names. The body can be read once, while the request's block lasts."""

    def __init__(self, head: h11.Response, body: AsyncIterator[bytes]) -> None:
        self.status = head.status_code
        self.headers: Headers = list(head.headers)
        self._body = body

    def aiter_stream(self) -> AsyncIterator[bytes]:
        """The body, in pieces as they come."""
        return self._body

    async def aread(self) -> bytes:
        return b"".join([piece async for piece in self._body])


class Connections:
    """Streams to one server, at most ``MOST_STREAMS``, each for one request at a time."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._free: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._slots = asyncio.Semaphore(MOST_STREAMS)

    def close(self) -> None:
        """Also those whose answer is still being read."""
        while self._open:
            self._open.pop().close()
        self._free.clear()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        target: str,
        headers: Headers,
        content: bytes | AsyncIterator[bytes] | None,
        *,
        timeout_s: float,
        connect_timeout_s: float,
    ) -> AsyncIterator[Response]:
        """``timeout_s`` is the longest silence. Raise ``Broken``, and what ``dial`` raises."""
        await _in_time(self._slots.acquire(), WAIT_FOR_STREAM_S, "no free connection")
        try:
            connection = await self._connection(connect_timeout_s)
            try:
                yield await connection.exchange(method, target, headers, content, timeout_s)
            finally:
                self._put_back(connection)
        finally:
            self._slots.release()

    async def _connection(self, timeout_s: float) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if connection.is_usable:
                return connection
            self._open.discard(connection)
            connection.close()
        connection = _Connection(*await _in_time(self._dial(), timeout_s, "no connection"))
        self._open.add(connection)
        return connection

    def _put_back(self, connection: _Connection) -> None:
        if connection in self._open and connection.begin_anew():
            self._free.append(connection)
        else:
            self._open.discard(connection)
            connection.close()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)

    @property
    def is_usable(self) -> bool:
        """Whether the other side has not closed it: a proxy ends what was idle for a while."""
        return not self._reader.at_eof() and self._reader.exception() is None

    def begin_anew(self) -> bool:
        """Be ready for the next request; False when that cannot be on this stream."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return True

    def close(self) -> None:
        self._writer.close()

    async def exchange(
        self, method: str, target: str, headers: Headers, content: bytes | AsyncIterator[bytes] | None, timeout_s: float
    ) -> Response:
        if isinstance(content, bytes):
            headers = [*headers, (b"content-length", b"%d" % len(content))]
        try:
            await self._send(h11.Request(method=method, target=target, headers=headers), timeout_s)
            if isinstance(content, bytes):
                await self._send(h11.Data(data=content), timeout_s)
            elif content is not None:
                async for piece in content:
                    await self._send(h11.Data(data=piece), timeout_s)
            await self._send(h11.EndOfMessage(), timeout_s)
        except _NotTaken:
            pass  # it may have refused the request before all of it had come, and said so
        while not isinstance(head := await self._next(timeout_s), h11.Response):
            continue
        return Response(head, self._body(timeout_s))

    async def _body(self, timeout_s: float) -> AsyncIterator[bytes]:
        while isinstance(event := await self._next(timeout_s), h11.Data):
            yield bytes(event.data)

    async def _send(self, event: h11.Event, timeout_s: float) -> None:
        try:
            data = self._state.send(event)
        except h11.LocalProtocolError as e:  # a body that is not as long as was said
            raise Broken(repr(e)) from e
        if not data:
            return
        try:
            self._writer.write(data)
            await _in_time(self._writer.drain(), timeout_s, "not taken")
        except OSError as e:
            raise _NotTaken(repr(e)) from e

    async def _next(self, timeout_s: float) -> h11.Event | type[h11.PAUSED] | type[h11.NEED_DATA]:
        try:
            while (event := self._state.next_event()) is h11.NEED_DATA:
                self._state.receive_data(await _in_time(self._reader.read(_READ_BYTES), timeout_s, "no answer"))
        except (OSError, h11.RemoteProtocolError) as e:
            raise Broken(repr(e)) from e
        if isinstance(event, h11.ConnectionClosed):
            raise Broken("closed without an answer")
        return event


async def _in_time(step: Awaitable[T], limit_s: float, what: str) -> T:
    try:
        async with asyncio.timeout(limit_s):
            return await step
    except TimeoutError as e:
        raise Broken(f"{what} within {limit_s} s") from e
