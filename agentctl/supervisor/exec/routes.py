"""``/v1/processes…`` in the shapes of sandbox-agent 0.4, without its defects: what is started is ended whole, and no
answer waits for a pipe that somebody else holds.

Beyond it: ``id``, ``timeoutMs``, ``attach``, ``unattendedMs``, ``rows`` and ``cols`` at create, ``eof`` at input,
``signal`` and ``graceMs`` at stop, ``tailLines`` and ``attach`` at logs. Paths are relative to ``/v1/processes``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from agentctl.errors import BodyTooLarge, UsageError
from agentctl.supervisor import http
from agentctl.supervisor.exec.log import Entry, Page
from agentctl.supervisor.exec.process import UserProcess
from agentctl.supervisor.exec.processes import UserProcesses, owner
from agentctl.supervisor.exec.run import run
from agentctl.supervisor.exec.spec import Limits, ProcessSpec, process_id, terminal_size
from agentctl.supervisor.exec.terminal_routes import Terminals
from agentctl.supervisor.log.records import without_surrogates
from agentctl.supervisor.supervisor import Supervisor

Json = dict[str, Any]
HEARTBEAT_S = 15.0
LONGEST_WAIT_MS = 60_000
_STREAMS = {"": (), "combined": (), "stdout": ("stdout",), "stderr": ("stderr",), "pty": ("pty",)}


def routes(supervisor: Supervisor) -> list[BaseRoute]:
    """The routes below ``/v1/processes``."""
    handlers = ProcessRoutes(supervisor)
    terminals = Terminals(handlers.processes)
    return [
        Route("/", handlers.list),
        Route("/", handlers.create, methods=["POST"]),
        *(Route(path, handler, methods=[method]) for method, path, handler in handlers.table()),
        WebSocketRoute("/{id}/terminal/ws", terminals.attach),
        Route("/{id}/terminal/ws", terminals.refuse),
    ]


class ProcessRoutes:
    """One method per route; each parses, calls the process, answers."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.processes = UserProcesses.of(supervisor)
        self._supervisor = supervisor

    def table(self) -> list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]:
        return [
            ("GET", "/config", self.get_config),
            ("POST", "/config", self.set_config),
            ("POST", "/run", self.run),
            ("GET", "/{id}", self.get),
            ("DELETE", "/{id}", self.delete),
            ("POST", "/{id}/stop", self.stop),
            ("POST", "/{id}/kill", self.kill),
            ("POST", "/{id}/input", self.input),
            ("GET", "/{id}/logs", self.logs),
            ("POST", "/{id}/terminal/resize", self.resize),
        ]

    def _process(self, request: Request) -> UserProcess:
        return self.processes.get(request.path_params["id"])

    def _info(self, process: UserProcess) -> Response:
        return http.answer(self.processes.info(process))

    async def get_config(self, request: Request) -> Response:
        return http.answer(self.processes.limits.to_json())

    async def set_config(self, request: Request) -> Response:
        self.processes.limits = Limits.from_json(await http.json_body(request))
        return http.answer(self.processes.limits.to_json())

    async def run(self, request: Request) -> Response:
        body = await http.json_body(request)
        most = body.get("maxOutputBytes")
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise UsageError("maxOutputBytes must be a whole number above 0.")
        spec = ProcessSpec.from_json(body)
        self._supervisor.touch()
        return http.answer(await run(self.processes, spec, most))

    async def list(self, request: Request) -> Response:
        ours = owner(request.query_params.get("owner"))
        found = self.processes.listing() if ours else []
        return http.answer({"processes": [self.processes.info(process) for process in found]})

    async def create(self, request: Request) -> Response:
        body = await http.json_body(request)
        spec, wanted = ProcessSpec.from_json(body), process_id(body)
        self._supervisor.touch()
        return self._info(self.processes.create(spec, wanted))

    async def get(self, request: Request) -> Response:
        return self._info(self._process(request))

    async def delete(self, request: Request) -> Response:
        self.processes.delete(request.path_params["id"])
        return Response(status_code=204)

    async def stop(self, request: Request) -> Response:
        """TERM, or ``signal``, to all of it; with ``graceMs`` KILL to what is left after that."""
        process = self._process(request)
        number = _signal(request.query_params.get("signal") or "TERM")
        grace_ms = http.query_int(request, "graceMs", None)
        ending: asyncio.Task[None] | None = None
        if grace_ms is None:
            process.send_signal(number)
        else:
            ending = process.begin_end(number, min(grace_ms, LONGEST_WAIT_MS) / 1000)
        return await self._waited(process, ending, request)

    async def kill(self, request: Request) -> Response:
        process = self._process(request)
        return await self._waited(process, process.begin_end(signal.SIGKILL, 0), request)

    async def _waited(self, process: UserProcess, ending: asyncio.Task[None] | None, request: Request) -> Response:
        """The process as it is when all of it is dead, or after ``waitMs``."""
        wait_ms = min(http.query_int(request, "waitMs", 0) or 0, LONGEST_WAIT_MS)
        if wait_ms:
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    process.exited.wait() if ending is None else asyncio.shield(ending), wait_ms / 1000
                )
        return self._info(process)

    async def input(self, request: Request) -> Response:
        """``{"data", "encoding"?, "eof"?}``; ``bytesWritten`` is less than all when it was not read for 10 s."""
        process = self._process(request)
        body = await http.json_body(request)
        data = _decoded(body)
        most = self.processes.limits.maxInputBytesPerRequest
        if len(data) > most:
            raise BodyTooLarge(f"The input has {len(data)} bytes; at most {most} are taken at once.")
        self._supervisor.touch()
        return http.answer({"bytesWritten": await process.write(data, end=body.get("eof") is True)})

    async def resize(self, request: Request) -> Response:
        process = self._process(request)
        rows, cols = terminal_size(await http.json_body(request))
        process.resize(rows, cols)
        return http.answer({"cols": cols, "rows": rows})

    async def logs(self, request: Request) -> Response:
        process = self._process(request)
        streams = _streams(request.query_params.get("stream") or "")
        after, cut = _start(process, request, streams)
        if not http.query_flag(request, "follow"):
            return http.answer(_all(process, after, cut, streams, request.query_params.get("stream") or "combined"))
        attach = http.query_flag(request, "attach")
        return LogStream(self._followed(process, after, cut, streams, attach), headers=http.SSE_HEADERS)

    async def _followed(
        self, process: UserProcess, after: int, cut: int, streams: tuple[str, ...], attach: bool
    ) -> AsyncIterator[bytes]:
        """Pages as events, with a comment when it is quiet. An attached reader is waited for, and told the end."""
        async with aclosing(process.log.follow(after, streams, hold=attach)) as pages:
            waiting: asyncio.Future[Page] | None = None
            try:
                while True:
                    waiting = waiting or asyncio.ensure_future(anext(pages))
                    if not (await asyncio.wait({waiting}, timeout=HEARTBEAT_S))[0]:
                        yield b": heartbeat\n\n"
                        continue
                    page, waiting = waiting.result(), None
                    yield _events(page, cut)
                    cut = 0
            except StopAsyncIteration:
                pass
            finally:
                if waiting is not None:
                    waiting.cancel()
                    await asyncio.wait({waiting})
        if attach:
            info = json.dumps(without_surrogates(self.processes.info(process)))
            yield f"event: exit\ndata: {info}\n\n".encode()


class LogStream(http.EventStream):
    """Closes its source at once when the reader is gone: an open one holds the process up."""

    def __init__(self, chunks: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        StreamingResponse.__init__(self, chunks, media_type="text/event-stream", headers=headers)
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._chunks.aclose()  # type: ignore[attr-defined]  # it is an async generator


def _signal(name: str) -> int:
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    number = getattr(signal, full, None)
    if not isinstance(number, signal.Signals):
        raise UsageError(f"There is no signal {name[:20]!r}.", hint="TERM, INT, HUP and KILL are such.")
    return int(number)


def _decoded(body: Json) -> bytes:
    data, encoding = body.get("data", ""), body.get("encoding") or "base64"
    if not isinstance(data, str):
        raise UsageError("data must be a text.")
    if encoding in ("utf8", "text"):
        return data.encode("utf-8", "surrogateescape")
    if encoding != "base64":
        raise UsageError(f"encoding cannot be {str(encoding)[:20]!r}: it is base64, utf8 or text.")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as e:
        raise UsageError(f"data is not base64: {e}.", hint='Send text with {"encoding": "utf8"}.') from None


def _streams(name: str) -> tuple[str, ...]:
    try:
        return _STREAMS[name]
    except KeyError:
        raise UsageError(f"stream cannot be {name[:20]!r}: it is stdout, stderr, combined or pty.") from None


def _start(process: UserProcess, request: Request, streams: tuple[str, ...]) -> tuple[int, int]:
    """The number after which to begin, and how much of the first entry to leave out."""
    log = process.log
    last_id = request.headers.get("last-event-id")
    since = http.start_offset(request) if last_id is not None else http.query_int(request, "since", None)
    if since is not None and since > log.last:
        raise UsageError(f"Entry {since} was never written: the last one is {log.last}.")
    after, cut = since or 0, 0
    tail, lines = http.query_int(request, "tail", None), http.query_int(request, "tailLines", None)
    if tail is not None:
        after = max(after, log.before_tail(tail, streams))
    elif lines is not None:
        start, part = log.before_tail_lines(lines, streams)
        after, cut = (start, part) if start >= after else (after, 0)
    return after, cut


def _all(process: UserProcess, after: int, cut: int, streams: tuple[str, ...], name: str) -> Json:
    """ProcessLogsResponse with everything that is kept; what is not is counted."""
    entries: list[Json] = []
    body: Json = {"processId": process.record.id, "stream": name, "entries": entries}
    while True:
        page = process.log.read(after, streams)
        if page.gap is not None:
            body |= {"truncated": True, "firstSequence": page.gap}
        for entry in page.entries:
            if entry.stream == "lost":
                body["lostBytes"] = body.get("lostBytes", 0) + entry.lost
            else:
                entries.append(json.loads(_entry(entry, cut)))
                cut = 0
        if page.after == after:
            return body
        after = page.after


def _entry(entry: Entry, cut: int) -> bytes:
    """ProcessLogEntry; written by hand, for a log can be long."""
    return b'{"sequence":%d,"stream":"%s","timestampMs":%d,"data":"%s","encoding":"base64"}' % (
        entry.sequence,
        entry.stream.encode(),
        entry.time_ms,
        base64.b64encode(entry.data[cut:] if cut else entry.data),
    )


def _events(page: Page, cut: int) -> bytes:
    chunks = []
    if page.gap is not None:
        chunks.append(b'event: truncated\ndata: {"firstSequence":%d}\n\n' % page.gap)
    for entry in page.entries:
        if entry.stream == "lost":
            chunks.append(b'event: truncated\nid: %d\ndata: {"lostBytes":%d}\n\n' % (entry.sequence, entry.lost))
        else:
            chunks.append(b"event: log\nid: %d\ndata: %s\n\n" % (entry.sequence, _entry(entry, cut)))
            cut = 0
    return b"".join(chunks)
