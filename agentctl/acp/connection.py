"""A lossless JSON-RPC connection over an agent's stdio: NDJSON in, NDJSON out, order kept, nothing dropped.

Source: the ACP transport rules (one UTF-8 JSON object a line, no batches) and JSON-RPC 2.0. Frames are passed as dicts
with every field they came with. The owner is a ``Handler``, called synchronously in the order of the lines; after each
chunk read it hears ``flushed()``, so that it can write what it collected at once. What the agent does wrong is
reported to the handler and never stops the loop.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from agentctl.acp.framing import LineSplitter, TooLong
from agentctl.errors import AgentExited, DeadlineExceeded, ProtocolError
from agentctl.wire import MAX_LINE_BYTES

Json = dict[str, Any]

CHUNK_BYTES = 64 * 1024
WRITE_TIMEOUT_S = 30.0
REQUEST_CANCELLED = -32800
METHOD_NOT_FOUND = -32601


class Source(Protocol):
    """Where the agent's bytes come from: an ``asyncio.StreamReader``, or a test's feed. ``b""`` is the end."""

    async def read(self, n: int, /) -> bytes: ...


class Sink(Protocol):
    """Where our bytes go: an ``asyncio.StreamWriter``, or a test's list."""

    def write(self, data: bytes, /) -> None: ...
    async def drain(self) -> None: ...
    def close(self) -> None: ...


class Handler(Protocol):
    """The owner of a connection. Every method is called from the event loop, must not block, and must not raise.

    ``line`` is the line as read, without its newline. ``frame`` is a JSON object; ``params`` in it is whatever the
    agent sent: absent, a list, anything.
    """

    def notification(self, frame: Json, line: bytes) -> None:
        """The agent said something: ``method`` is a string, there is no ``id``."""

    def request(self, frame: Json, line: bytes) -> None:
        """The agent asks; answer later, once, with ``respond`` or ``respond_error`` and the very ``frame["id"]``."""

    def response(self, method: str, frame: Json, line: bytes) -> None:
        """The answer to our request ``method``, before its future resolves; ``id`` may be a string echo of ours.

        Also called for an answer that came after its request's deadline or cancellation.
        """

    def garbage(self, line: bytes, reason: str) -> None:
        """A line that is no frame; ``reason`` is one of ``GARBAGE_REASONS``. Of a too long line, its first 4 KiB."""

    def sent(self, frame: Json) -> None:
        """A frame of ours was handed to the agent's stdin."""

    def flushed(self) -> None:
        """All complete lines of one chunk were dispatched."""

    def closed(self, reason: str) -> None:
        """Nothing follows. Called once: ``"eof"``, ``"closed"`` (by us) or ``"error: …"`` (reading failed)."""


GARBAGE_REASONS = {
    "not_utf8": "the line is not UTF-8",
    "not_json": "the line is not JSON",
    "batch": "the line is a JSON array; ACP has no batches",
    "not_object": "the line is JSON, but no object",
    "not_jsonrpc": "the object has neither a method nor an id with a result or an error",
    "unknown_id": "the answer belongs to no open request",
    "line_too_long": "the line is longer than the limit and was skipped",
}


class RpcError(Exception):
    """The agent answered a request with a JSON-RPC error. ``code`` may be any integer, positive ones too."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data


class Call(NamedTuple):
    """A request on its way. ``future`` gives the result object, ``RpcError``, ``ProtocolError`` or ``AgentExited``."""

    id: int
    method: str
    future: asyncio.Future[Json]


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


# JSON knows no NaN or Infinity: read as null, or our own log would not be JSON either.
_decoder = json.JSONDecoder(parse_constant=lambda _name: None, parse_float=_finite)


def _decoded(text: str) -> Any:
    """``JSONDecoder.decode`` looks for white space around the value, which takes as long as a short frame itself."""
    try:
        value, end = _decoder.raw_decode(text)
    except ValueError:
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


class _Garbage(Exception):
    """``reason`` is a key of ``GARBAGE_REASONS``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _parse(line: bytes) -> Json:
    try:
        frame = _decoded(line.decode())
    except UnicodeDecodeError as e:
        raise _Garbage("not_utf8") from e
    except (ValueError, RecursionError) as e:  # RecursionError: 100,000 opening brackets are a line, too
        raise _Garbage("not_json") from e
    if not isinstance(frame, dict):
        raise _Garbage("batch" if isinstance(frame, list) else "not_object")
    return frame


class Connection:
    """One agent's stdio. Make it inside a running loop, then keep ``run()`` running until it returns.

    A line may be ``max_line_bytes`` long; memory stays bounded by a few times that. Blank lines say nothing and are
    skipped. Nothing here is thread-safe.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        handler: Handler,
        *,
        max_line_bytes: int = MAX_LINE_BYTES,
        write_timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        self._source = source
        self._sink = sink
        self._handler = handler
        self._splitter = LineSplitter(max_line_bytes)
        self._write_timeout_s = write_timeout_s
        self._loop = asyncio.get_running_loop()
        self._next_id = 0
        self._open: dict[int, Call] = {}
        self._given_up: dict[int, str] = {}
        self._reading: asyncio.Task[Any] | None = None
        self._running = False
        self._closed = False
        self._ended = False
        self.shortcut: Callable[[bytes], bool] | None = None
        """Is shown each line before anybody else; one that it takes is not parsed, and the handler does not hear it."""
        self.chunks_read = 0
        """Rises with all that comes in, whole lines or not."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be asked or answered any more."""
        return self._closed

    async def run(self) -> None:
        """Read until the agent's stdout ends or ``close`` is called; every open request then gets ``AgentExited``."""
        reason = "closed"
        self._running = True
        try:
            while not self._closed:
                chunk = await self._read()
                self.chunks_read += 1
                self._dispatch(self._splitter.feed(chunk) if chunk else [self._splitter.finish()])
                if not chunk:
                    reason = "eof"
                    break
                if len(chunk) == CHUNK_BYTES:
                    await asyncio.sleep(0)  # there is more: what this made goes out to readers meanwhile
        except OSError as e:
            reason = f"error: {e}"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closed or task is None or task.uncancel() > 0:
                raise
        finally:
            self._end(reason)

    def start(self, method: str, params: Json | None = None) -> Call:
        """Write a request now and return its ``Call``; await ``call.future``, or only listen to ``response``.

        Raises ``AgentExited`` when the connection is closed.
        """
        call = self._begin(method)
        self._send({"jsonrpc": "2.0", "id": call.id, "method": method, "params": params or {}})
        return call

    def forward(self, frame: Json) -> int | None:
        """Write a foreign client's frame with every field it came with. A request gets an id of ours in the place of
        its own, which is returned; ``Handler.response`` hears its answer.

        Raises ``AgentExited`` when the connection is closed.
        """
        method = frame.get("method")
        if method is None or "id" not in frame:
            if self._closed:
                raise _exited(method or "an answer")
            self._send(frame)
            return None
        call = self._begin(method)
        self._send({**frame, "id": call.id})
        return call.id

    async def request(self, method: str, params: Json | None = None, timeout_s: float | None = None) -> Json:
        """Ask and wait for the result object (``{}`` for null).

        Raises ``RpcError`` for a JSON-RPC error, ``ProtocolError`` for a result that is no object, ``AgentExited``
        when the stream ends first, and ``DeadlineExceeded`` after ``timeout_s`` (``$/cancel_request`` was sent then)
        or when the agent does not read its stdin. A late answer still reaches ``Handler.response``.
        """
        call = self.start(method, params)
        try:
            async with asyncio.timeout(timeout_s):
                await self.drain()
                return await call.future
        except TimeoutError as e:
            self.cancel_request(call.id)
            raise DeadlineExceeded(f"the agent did not answer {method} within {timeout_s:g} s") from e
        finally:
            if self._open.pop(call.id, None):
                self._given_up[call.id] = method

    def notify(self, method: str, params: Json | None = None) -> None:
        """Send a notification. Like every answer, it is dropped when the connection is closed."""
        self._send({"jsonrpc": "2.0", "method": method, "params": params or {}})

    def respond(self, request_id: Any, result: Any) -> None:
        """Answer the agent's request."""
        self._send({"jsonrpc": "2.0", "id": request_id, "result": result})

    def respond_error(self, request_id: Any, code: int, message: str, data: Any = None) -> None:
        """Refuse the agent's request."""
        error = {"code": code, "message": message}
        self._send({"jsonrpc": "2.0", "id": request_id, "error": error if data is None else {**error, "data": data}})

    def cancel_request(self, request_id: int) -> None:
        """Send ``$/cancel_request`` for a request of ours; the agent still owes its answer."""
        self.notify("$/cancel_request", {"requestId": request_id})

    async def drain(self) -> None:
        """Wait until the agent has read most of what was written.

        Raises ``DeadlineExceeded`` after ``write_timeout_s``, ``AgentExited`` when its stdin is gone.
        """
        try:
            async with asyncio.timeout(self._write_timeout_s):
                await self._sink.drain()
        except TimeoutError as e:
            raise DeadlineExceeded(f"the agent did not read its stdin for {self._write_timeout_s:g} s") from e
        except OSError as e:
            raise AgentExited(f"the agent closed its stdin: {e}") from e

    def close(self) -> None:
        """Close the agent's stdin and end ``run``; open requests get ``AgentExited``. Idempotent."""
        self._closed = True
        self._sink.close()
        if self._reading:
            self._reading.cancel()  # run() turns it into a normal end; a task per read would cost more than a frame
            self._reading = None
        elif not self._running:
            self._end("closed")

    def _begin(self, method: str) -> Call:
        if self._closed:
            raise _exited(method)
        call = Call(self._next_id, method, self._loop.create_future())
        call.future.add_done_callback(_retrieve)
        self._next_id += 1
        self._open[call.id] = call
        return call

    async def _read(self) -> bytes:
        self._reading = asyncio.current_task()
        try:
            return await self._source.read(CHUNK_BYTES)
        finally:
            self._reading = None

    def _dispatch(self, lines: list[bytes | TooLong]) -> None:
        shortcut = self.shortcut
        for line in lines:
            if isinstance(line, TooLong):
                self._handler.garbage(line.head, "line_too_long")
            elif shortcut is not None and shortcut(line):
                continue
            elif line and not line.isspace():
                try:
                    self._dispatch_frame(_parse(line), line)
                except _Garbage as e:
                    self._handler.garbage(line, e.reason)
        if lines:
            self._handler.flushed()

    def _dispatch_frame(self, frame: Json, line: bytes) -> None:
        method = frame.get("method")
        if isinstance(method, str):
            if "id" in frame:
                self._handler.request(frame, line)
            else:
                self._handler.notification(frame, line)
        elif method is None and "id" in frame:
            self._dispatch_response(frame, line)
        else:
            raise _Garbage("not_jsonrpc")

    def _dispatch_response(self, frame: Json, line: bytes) -> None:
        """``{"id": 3}`` alone is an answer, too: what a JavaScript agent writes for the result ``undefined``."""
        request_id = _our_id(frame["id"])
        call = self._open.pop(request_id, None)
        if call:
            self._handler.response(call.method, frame, line)
            _settle(call, frame)
        elif request_id in self._given_up:
            self._handler.response(self._given_up.pop(request_id), frame, line)
        else:
            raise _Garbage("unknown_id")

    def _send(self, frame: Json) -> None:
        if self._closed:
            return
        self._sink.write(json.dumps(frame, separators=(",", ":")).encode() + b"\n")
        self._handler.sent(frame)

    def _end(self, reason: str) -> None:
        if self._ended:
            return
        self._closed = self._ended = True
        calls, self._open = self._open, {}
        for call in calls.values():
            if not call.future.done():
                call.future.set_exception(_exited(call.method))
        self._handler.closed(reason)


def _our_id(value: Any) -> int:
    """Our ids are integers; agents echo them as ``3``, ``3.0`` or ``"3"``. -1 for what cannot be one."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value):
        return int(value)
    return -1


def _settle(call: Call, frame: Json) -> None:
    if call.future.done():
        return
    error, result = frame.get("error"), frame.get("result")
    if error is not None:
        call.future.set_exception(_rpc_error(error))
    elif result is None or isinstance(result, dict):
        call.future.set_result(result or {})
    else:
        kind = type(result).__name__
        call.future.set_exception(ProtocolError(f"the agent answered {call.method} with a {kind}, not an object"))


def _rpc_error(error: Any) -> RpcError:
    """Whatever the agent put into ``error`` becomes an ``RpcError``; what is no error object goes into its data."""
    code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(code, int) or isinstance(code, bool):
        return RpcError(-32603, "the agent's error has no code", error)
    return RpcError(code, str(error.get("message", "")), error.get("data"))


def _exited(method: str) -> AgentExited:
    return AgentExited(f"the agent ended before it answered {method}")


def _retrieve(future: asyncio.Future[Json]) -> None:
    """Look at the exception, so that a call nobody awaits is not reported as forgotten."""
    if not future.cancelled():
        future.exception()
