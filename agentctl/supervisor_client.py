"""The host's side of ``wire.py``: HTTP to one supervisor over whatever stream the provider can open.

Every call has a deadline. A stream of events is a cursor on the session's log: it yields what follows ``offset`` and,
when the connection breaks, it is opened again after the last event seen; nothing is lost or doubled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self

import httpcore

from agentctl import errors
from agentctl.events import Event
from agentctl.providers.base import Dial, Endpoint
from agentctl.wire import ERROR_URN, MAX_LINE_BYTES, TOKEN_HEADER

Json = dict[str, Any]
CALL_TIMEOUT_S = 30.0
START_S = 180.0
"""What a call may take more when the agent has to be started for it."""

SILENCE_TIMEOUT_S = 60.0
"""The supervisor sends a comment every 15 s on a quiet event stream; silence for longer means that it is gone."""


class SupervisorClient:
    """One supervisor. Use as an async context manager. Every method may raise ``SupervisorUnreachable`` (the stream
    could not be opened or broke) and the error that the supervisor answered with."""

    def __init__(self, endpoint: Endpoint, token: str) -> None:
        self._headers = [(k.encode(), v.encode()) for k, v in endpoint.headers.items()]
        self._headers += [(b"host", b"supervisor"), (TOKEN_HEADER.encode(), token.encode())]
        self._pool = httpcore.AsyncConnectionPool(network_backend=_Backend(endpoint.dial), max_connections=8)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def health(self, timeout_s: float = 5.0) -> Json:
        return await self._call("GET", "/v1/health", timeout_s=timeout_s)

    async def create_session(self, session_id: str, body: Json, *, timeout_s: float) -> Json:
        return await self._call("POST", f"/v1/sessions/{session_id}", body, timeout_s=timeout_s)

    async def snapshot(self, session_id: str, *, timeout_s: float = CALL_TIMEOUT_S) -> Json:
        return await self._call("GET", f"/v1/sessions/{session_id}", timeout_s=timeout_s)

    async def events(self, session_id: str, offset: int, *, include_raw: bool = False) -> list[Event]:
        """A page of the events after ``offset`` that are there now; empty at the end."""
        target = f"/v1/sessions/{session_id}/events?offset={offset}" + ("&include_raw=true" if include_raw else "")
        bodies = (await self._call("GET", target))["events"]
        return [Event(body["sequence"], body, json.dumps(body).encode()) for body in bodies]

    async def send(self, session_id: str, message: Json) -> Json:
        """Start a turn: ``{"turn_id", "status", "duplicate"}``. Raise ``SessionBusy`` while another one runs."""
        return await self._call("POST", f"/v1/sessions/{session_id}/messages", message)

    async def cancel(self, session_id: str, *, kill: bool = False) -> Json:
        return await self._call("POST", f"/v1/sessions/{session_id}/cancel", {"kill": kill})

    async def reply_permission(self, session_id: str, request_id: str, body: Json) -> None:
        await self._call("POST", f"/v1/sessions/{session_id}/permissions/{request_id}/reply", body)

    async def reply_question(self, session_id: str, request_id: str, content: Json | None) -> None:
        """Answer a question with ``content``, or decline it with None."""
        route = f"/v1/sessions/{session_id}/questions/{request_id}"
        if content is None:
            await self._call("POST", route + "/reject", {})
        else:
            await self._call("POST", route + "/reply", {"content": content})

    async def configure(self, session_id: str, changes: Json) -> Json:
        return await self._call("POST", f"/v1/sessions/{session_id}/config", changes, timeout_s=START_S + 60)

    async def call(self, session_id: str, method: str, params: Json, *, timeout_s: float = 60) -> Json:
        body = {"method": method, "params": params, "timeoutS": timeout_s}
        return await self._call("POST", f"/v1/sessions/{session_id}/call", body, timeout_s=START_S + timeout_s)

    async def shutdown(self) -> None:
        await self._call("POST", "/v1/shutdown", {}, timeout_s=10)

    async def stream(
        self, session_id: str, offset: int, *, include_raw: bool = False, retry_s: float = 3.0
    ) -> AsyncIterator[list[Event]]:
        """Events after ``offset`` as they are written, in batches, without end. A broken connection is opened again
        for ``retry_s``; then ``SupervisorUnreachable``."""
        deadline: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            try:
                async for batch in self._stream_once(session_id, offset, include_raw):
                    deadline = None
                    offset = batch[-1].sequence
                    yield batch
            except errors.SupervisorUnreachable:
                now = loop.time()
                deadline = deadline or now + retry_s
                if now >= deadline:
                    raise
                await asyncio.sleep(0.1)
                continue
            return

    async def _stream_once(self, session_id: str, offset: int, include_raw: bool) -> AsyncIterator[list[Event]]:
        target = f"/v1/sessions/{session_id}/events/sse?offset={offset}" + ("&include_raw=true" if include_raw else "")
        timeout = {"connect": 5.0, "pool": 5.0, "read": SILENCE_TIMEOUT_S, "write": 5.0}
        try:
            async with self._pool.stream(
                "GET", f"http://supervisor{target}", headers=self._headers, extensions={"timeout": timeout}
            ) as response:
                if response.status >= 400:
                    raise _error_of(response.status, await response.aread())
                rest = b""
                async for chunk in response.aiter_stream():
                    blocks = (rest + chunk).split(b"\n\n")
                    rest = blocks.pop()
                    batch = list(_events_of(blocks))
                    if batch:
                        yield batch
        except _TRANSPORT_ERRORS as e:
            raise errors.SupervisorUnreachable(f"The sandbox's supervisor broke off: {e!r}") from e

    async def _call(
        self, method: str, path: str, body: Json | None = None, *, timeout_s: float = CALL_TIMEOUT_S
    ) -> Json:
        headers = self._headers
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            if len(content) > MAX_LINE_BYTES:
                raise errors.BodyTooLarge(
                    f"That is {len(content)} bytes with its attachments; a sandbox takes {MAX_LINE_BYTES} at once.",
                    hint="Send less, or put the files where the agent can read them.",
                )
            headers = [*headers, (b"content-type", b"application/json")]
        timeout = {"connect": 5.0, "pool": 5.0, "read": timeout_s, "write": timeout_s}
        try:
            response = await self._pool.request(
                method, f"http://supervisor{path}", headers=headers, content=content, extensions={"timeout": timeout}
            )
        except _TRANSPORT_ERRORS as e:
            raise errors.SupervisorUnreachable(f"The sandbox's supervisor did not answer {method} {path}: {e!r}") from e
        if response.status >= 400:
            raise _error_of(response.status, response.content)
        answer: Json = json.loads(response.content) if response.content else {}
        return answer


_TRANSPORT_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


_decode = json.JSONDecoder().decode
"""``json.loads`` would look for the encoding of every line first; an event stream is UTF-8."""


def _events_of(blocks: Iterable[bytes]) -> Iterable[Event]:
    for block in blocks:
        start = block.find(b"data: ")
        if start < 0 or block.startswith(b":"):
            continue
        line = block[start + 6 :]
        body = _decode(line.decode())
        yield Event(body["sequence"], body, line)


def _error_of(status: int, content: bytes) -> errors.AgentctlError:
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
                return await self._reader.read(max_bytes)
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
        return None


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
