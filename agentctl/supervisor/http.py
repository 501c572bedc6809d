"""The HTTP edge: the token gate, problem+json for every error, bounded JSON bodies, event streams from a log."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from agentctl import errors
from agentctl.errors import BodyTooLarge, MediaTypeUnsupported, NotAcceptable, TokenInvalid
from agentctl.supervisor.log.pages import Record
from agentctl.supervisor.log.records import without_surrogates
from agentctl.wire import ERROR_URN, MAX_LINE_BYTES, TOKEN_HEADER

Json = dict[str, Any]
HEARTBEAT_S = 15.0
SSE_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def answer(body: Json, status_code: int = 200) -> JSONResponse:
    """A JSON answer that is UTF-8 whatever an agent said."""
    return JSONResponse(without_surrogates(body), status_code=status_code)


def problem(error: errors.AgentctlError, status: int | None = None) -> JSONResponse:
    """RFC 9457, with our ``hint`` and ``details`` as extension members."""
    body = {
        "type": ERROR_URN + error.code,
        "title": error.code.replace("_", " ").title(),
        "status": status or error.http_status,
        "detail": error.message,
        "hint": error.hint,
        "details": error.details,
    }
    return JSONResponse(
        without_surrogates(body), status_code=status or error.http_status, media_type="application/problem+json"
    )


async def on_agentctl_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, errors.AgentctlError)
    return problem(exc)


async def on_http_exception(request: Request, exc: Exception) -> Response:
    """Starlette's own 404, 405 and the like, in our shape."""
    assert isinstance(exc, HTTPException)
    error: errors.AgentctlError
    if exc.status_code == 404:
        error = errors.NotFound(f"No such endpoint: {request.method} {request.url.path}")
    else:
        error = errors.UsageError(str(exc.detail))
    return problem(error, exc.status_code)


async def on_unexpected_error(request: Request, exc: Exception) -> Response:
    """A bug of ours: told as such, with its kind but without its text, which may hold anything."""
    return problem(errors.AgentctlError(f"The supervisor failed unexpectedly ({type(exc).__name__})."))


class TokenGate:
    """Every request carries the token, as ``Authorization: Bearer`` or ``X-Agentctl-Token``, or gets 401. A websocket
    may have it in its query, as ``access_token``."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and not self._may_enter(scope):
            denied = problem(TokenInvalid("A valid token is required."))
            denied.headers["www-authenticate"] = "Bearer"
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send).send_denial_response(denied)
            else:
                await denied(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may_enter(self, scope: Scope) -> bool:
        if self._knows(scope["headers"]):
            return True
        if scope["type"] != "websocket":
            return False
        # A browser cannot give a websocket any header.
        given = parse_qs(scope["query_string"]).get(b"access_token", [b""])
        return hmac.compare_digest(given[0], self._token)

    def _knows(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        for name, value in headers:
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                value = value[7:].strip()
            elif name != TOKEN_HEADER.lower().encode():
                continue
            if hmac.compare_digest(value, self._token):
                return True
        return False


async def json_body(request: Request, *, require_type: bool = False) -> Json:
    """The request's JSON object (``{}`` for an empty body), at most 64 MiB. Raise ``UsageError`` for anything else."""
    media = request.headers.get("content-type", "").split(";")[0].strip()
    if require_type and media != "application/json":
        raise MediaTypeUnsupported("The content type must be application/json.")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_LINE_BYTES:
            raise BodyTooLarge(f"The body is larger than {MAX_LINE_BYTES} bytes.")
        chunks.append(chunk)
    text = b"".join(chunks)
    if not text.strip():
        return {}
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise errors.UsageError(f"The body is not JSON: {e}") from e
    if not isinstance(body, dict):
        raise errors.UsageError("The body must be a JSON object.")
    return body


def require_accept(request: Request, media_type: str) -> None:
    """Raise ``NotAcceptable`` unless the client takes ``media_type``; one that says nothing takes everything."""
    accept = request.headers.get("accept", "")
    family = media_type.partition("/")[0] + "/*"
    for offer in accept.split(","):
        name, *parameters = [part.strip().lower() for part in offer.split(";")]
        refused = any(p.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for p in parameters)
        if name in (media_type, family, "*/*") and not refused:
            return
    if accept.strip():
        raise NotAcceptable(f"The answer is {media_type}, which the Accept header does not allow: {accept[:80]!r}")


def query_int(request: Request, name: str, default: int | None) -> int | None:
    text = request.query_params.get(name)
    if text is None or text == "":
        return default
    if not _is_number(text):
        raise errors.UsageError(f"{name} must be a whole number that is not negative: {text[:40]!r}")
    return int(text)


def _is_number(text: str) -> bool:
    """At most 18 digits: any 64-bit reader holds it, and Python refuses to parse thousands of them."""
    return text.isascii() and text.isdigit() and len(text) <= 18


def query_flag(request: Request, *names: str) -> bool:
    return any(request.query_params.get(name, "").lower() in ("1", "true", "yes") for name in names)


def start_offset(request: Request) -> int:
    """Where a stream begins: ``Last-Event-ID`` of a reconnect, else ``offset``; events after that number follow."""
    last = request.headers.get("last-event-id")
    if last is None:
        return query_int(request, "offset", 0) or 0
    if not _is_number(last):
        raise errors.UsageError(f"Last-Event-ID must be a sequence number: {last[:40]!r}")
    return int(last)


def event_bytes(record: Record, include_raw: bool) -> bytes:
    """The event's JSON; with ``include_raw`` the frame goes in as its last member, without parsing either."""
    if include_raw and record.raw:
        return record.line[:-1] + b',"raw":' + record.raw + b"}"
    return record.line


def sse_chunk(records: Iterable[Record], include_raw: bool, name: bytes = b"") -> bytes:
    """Many events as one chunk of an event stream: ``id: <sequence>`` and ``data: <JSON>`` each."""
    return b"".join(
        b"%sid: %d\ndata: %s\n\n" % (name, record.sequence, event_bytes(record, include_raw)) for record in records
    )


async def with_heartbeats(
    pages: AsyncIterator[list[Record]], render: Callable[[list[Record]], bytes], every_s: float = HEARTBEAT_S
) -> AsyncIterator[bytes]:
    """The pages of a log as chunks of an event stream, with a comment whenever it was quiet for a while."""
    waiting: asyncio.Future[list[Record]] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(pages))
            done, _ = await asyncio.wait({waiting}, timeout=every_s)
            if not done:
                yield b": heartbeat\n\n"
                continue
            try:
                page = waiting.result()
            except StopAsyncIteration:
                return
            waiting = None
            yield render(page)
    finally:
        if waiting is not None:
            waiting.cancel()


class EventStream(StreamingResponse):
    """Starlette's own uses an anyio task group. The backend of that takes 20 ms to import, for which the first events
    of a new supervisor would wait."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streaming = asyncio.ensure_future(self.stream_response(send))
        leaving = asyncio.ensure_future(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait((streaming, leaving), return_when=asyncio.FIRST_COMPLETED)
            if streaming.done():
                streaming.result()
        finally:
            streaming.cancel()
            leaving.cancel()
            await asyncio.gather(streaming, leaving, return_exceptions=True)


def event_stream(chunks: AsyncIterator[bytes]) -> StreamingResponse:
    return EventStream(chunks, media_type="text/event-stream", headers=SSE_HEADERS)
