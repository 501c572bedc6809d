"""HTTP to one supervisor over whatever stream the provider can open; every call has a deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import httpcore

from agentctl import errors
from agentctl.providers.base import Dial, Endpoint
from agentctl.wire import ERROR_URN, MAX_LINE_BYTES, TOKEN_HEADER

Json = dict[str, Any]
_READ_BYTES = 1024 * 1024
"""httpcore asks for 64 KiB at a time, which is half as fast for a large file; its parser takes any number."""

CALL_TIMEOUT_S = 30.0
SILENCE_TIMEOUT_S = 30.0
"""The supervisor sends a comment every 15 s on a quiet event stream; silence for longer means that it is gone, or that
somebody froze it."""


class Transport:
    """One supervisor's door. Use as an async context manager; both calls may raise ``SupervisorUnreachable`` (the
    stream could not be opened or broke) and the error that the supervisor answered with."""

    def __init__(self, endpoint: Endpoint, token: str) -> None:
        self._endpoint = endpoint
        door = {b"host": b"supervisor", **_lines(endpoint)}
        self.headers = [*door.items(), (TOKEN_HEADER.encode(), token.encode())]
        self._pool = httpcore.AsyncConnectionPool(network_backend=_Backend(self.dial), max_connections=8)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One stream to the supervisor. Raise ``SupervisorUnreachable``."""
        return await self._endpoint.dial()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def request(
        self, method: str, path: str, body: Json | None = None, *, timeout_s: float = CALL_TIMEOUT_S
    ) -> Json:
        """One request with a JSON body, answered by a JSON object (``{}`` for an empty answer)."""
        headers, content = self.headers, None
        if body is not None:
            content = json.dumps(body).encode()
            if len(content) > MAX_LINE_BYTES:
                raise errors.BodyTooLarge(
                    f"That is {len(content)} bytes with its attachments; a sandbox takes {MAX_LINE_BYTES} at once.",
                    hint="Send less, or put the files where the agent can read them.",
                )
            headers = [*headers, (b"content-type", b"application/json")]
        async with self.open(method, path, content=content, headers=headers, timeout_s=timeout_s) as response:
            said = await response.aread()
        answer: Json = json.loads(said) if said else {}
        return answer

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: list[tuple[bytes, bytes]] | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        connect_timeout_s: float = 5.0,
    ) -> AsyncIterator[httpcore.Response]:
        """A request whose body and answer may be streamed; ``timeout_s`` is the longest silence. A door that refuses it
        is renewed once, where that can be done and the body can be sent again."""
        timeout = {"connect": connect_timeout_s, "pool": 5.0, "read": timeout_s, "write": timeout_s}
        may_renew = self._endpoint.renew is not None and not isinstance(content, AsyncIterator)
        while True:
            try:
                async with self._pool.stream(
                    method,
                    f"http://supervisor{path}",
                    headers=self._through_door(headers or self.headers),
                    content=content,
                    extensions={"timeout": timeout},
                ) as response:
                    if response.status < 300:
                        yield response
                        return
                    error = error_of(response.status, await response.aread())
            except _TRANSPORT_ERRORS as e:
                raise errors.SupervisorUnreachable(f"The sandbox's supervisor broke off {method} {path}: {e!r}") from e
            if not may_renew or not _is_refused_at_door(response.status, error):
                raise error
            may_renew = False
            await self._renew()

    async def _renew(self) -> None:
        assert self._endpoint.renew is not None
        try:
            self._endpoint = await self._endpoint.renew()
        except (errors.NotFound, errors.SandboxError) as e:
            raise errors.SupervisorUnreachable(f"The sandbox's supervisor cannot be reached: {e.message}") from e
        self.headers = self._through_door(self.headers)

    def _through_door(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """They may have been taken down before the door was renewed."""
        door = _lines(self._endpoint)
        return [(name, door.get(name, value)) for name, value in headers]


def _lines(endpoint: Endpoint) -> dict[bytes, bytes]:
    return {name.lower().encode(): value.encode() for name, value in endpoint.headers.items()}


def _is_refused_at_door(status: int, error: errors.AgentctlError) -> bool:
    """By somebody between us and the supervisor, who wants to know who we are: it sends us to a page of its own."""
    return isinstance(error, errors.SupervisorUnreachable) and (status in (401, 403) or status < 400)


_TRANSPORT_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


def error_of(status: int, content: bytes) -> errors.AgentctlError:
    try:
        body = json.loads(content)
        code = str(body["type"]).removeprefix(ERROR_URN)
        message = str(body["detail"])
    except (ValueError, KeyError, TypeError):
        return errors.SupervisorUnreachable(f"The sandbox's supervisor answered {status} without a reason.")
    return errors.from_code(code, message, hint=body.get("hint"), details=body.get("details"))


class _Stream(httpcore.AsyncNetworkStream):
    """httpcore's stream on the pair that a provider's ``dial`` gives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max(max_bytes, _READ_BYTES))
        except TimeoutError as e:
            raise httpcore.ReadTimeout(f"no answer within {timeout} s") from e
        except OSError as e:
            raise httpcore.ReadError(str(e)) from e

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as e:
            raise httpcore.WriteTimeout(f"not taken within {timeout} s") from e
        except OSError as e:
            raise httpcore.WriteError(str(e)) from e

    async def aclose(self) -> None:
        self._writer.close()

    def get_extra_info(self, info: str) -> Any:
        """That the other side has closed it: a proxy ends what was idle for a while, and another one is opened then."""
        if info != "is_readable":
            return None
        return self._reader.at_eof() or self._reader.exception() is not None


class _Backend(httpcore.AsyncNetworkBackend):
    """Every connection is one more stream to the same supervisor, whatever host the URL names."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                return _Stream(*await self._dial())
        except TimeoutError as e:
            raise httpcore.ConnectTimeout(f"no connection within {timeout} s") from e

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
