"""``/v1/fs/…`` in the shapes of sandbox-agent 0.4, without its limits: bodies of any size, streamed, typed errors.

Beyond it: ``edit`` and ``archive``, ``mode`` at ``PUT file``, and ``session`` to say in whose directory relative paths
begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from agentctl import errors
from agentctl.supervisor import http
from agentctl.supervisor.files.space import FileSpace
from agentctl.supervisor.files.tree import Files
from agentctl.supervisor.files.write import MODE_BITS
from agentctl.supervisor.supervisor import Supervisor

Json = dict[str, Any]
Handler = Callable[[Files, Request, "Query"], Awaitable[Response]]
LINGER_S = 10.0
QUIET_S = 0.5
"""For so long, while it keeps coming, the rest of a refused upload is read and dropped: closing at once would cost the
client our answer."""


def routes(supervisor: Supervisor) -> list[BaseRoute]:
    """All routes below ``/v1/fs``."""
    fs = FsRoutes(supervisor)
    return [
        Route(path, fs.handler(handler), methods=[method])
        for method, path, handler in (
            ("GET", "/entries", entries),
            ("GET", "/file", get_file),
            ("PUT", "/file", put_file),
            ("DELETE", "/entry", delete),
            ("POST", "/mkdir", mkdir),
            ("POST", "/move", move),
            ("GET", "/stat", status),
            ("POST", "/edit", edit),
            ("POST", "/upload-batch", upload),
            ("GET", "/archive", archive),
        )
    ]


class FsRoutes:
    """What all routes share: whose files, activity, and an answer that reaches a client that is still sending."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def handler(self, handle: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            self._supervisor.touch()
            query = Query(request)
            try:
                return await handle(self._files(query), request, query)
            except errors.AgentctlError:
                await _drained(request)
                raise
            finally:
                self._supervisor.touch()

        return answer

    def _files(self, query: Query) -> Files:
        boot = self._supervisor.boot
        return Files(FileSpace(self._base(query.text("session")) or boot.home, boot.root))

    def _base(self, session_id: str) -> str | None:
        """The directory that a session works in; without one the peer's clients expect HOME."""
        return self._supervisor.session(session_id).request.cwd if session_id else None


class Query:
    """The query string, whose values may be any bytes: ``%ff`` becomes ``\\udcff``, as in paths."""

    def __init__(self, request: Request) -> None:
        text: str = request.scope["query_string"].decode("latin-1")
        try:
            self._values: dict[str, list[str]] = parse_qs(
                text, keep_blank_values=True, errors="surrogateescape", max_num_fields=20
            )
        except ValueError as e:
            raise errors.UsageError(f"The query cannot be read: {e}.") from e

    def text(self, name: str, default: str = "") -> str:
        return self._values.get(name, [default])[-1]

    def path(self) -> str:
        """The ``path`` that most routes need. Raise ``UsageError``."""
        path = self.text("path")
        if not path:
            raise errors.UsageError("The query must have a path.")
        return path

    def flag(self, name: str) -> bool:
        return self.text(name).lower() in ("1", "true", "yes")

    def mode(self) -> int | None:
        """``mode`` in octal digits. Raise ``UsageError``."""
        text = self.text("mode")
        if not text:
            return None
        if not (len(text) <= 5 and all(c in "01234567" for c in text)) or int(text, 8) > MODE_BITS:
            raise errors.UsageError(f"mode is octal digits up to 0777, not {text[:20]!r}.")
        return int(text, 8)


async def entries(files: Files, request: Request, query: Query) -> Response:
    return JSONResponse(await files.entries(query.text("path") or "."))


async def status(files: Files, request: Request, query: Query) -> Response:
    return JSONResponse(await files.stat(query.path()))


async def delete(files: Files, request: Request, query: Query) -> Response:
    return JSONResponse(await files.delete(query.path(), recursive=query.flag("recursive")))


async def mkdir(files: Files, request: Request, query: Query) -> Response:
    return JSONResponse(await files.mkdir(query.path()))


async def move(files: Files, request: Request, query: Query) -> Response:
    body = await http.json_body(request)
    source, to = _texts(body, "from", "to")
    return JSONResponse(await files.move(source, to, overwrite=bool(body.get("overwrite"))))


async def edit(files: Files, request: Request, query: Query) -> Response:
    body = await http.json_body(request)
    path, old, new = _texts(body, "path", "old", "new")
    return JSONResponse(await files.edit(path, old, new, everywhere=bool(body.get("all"))))


async def put_file(files: Files, request: Request, query: Query) -> Response:
    return JSONResponse(await files.write(query.path(), _body(request), mode=query.mode()))


async def upload(files: Files, request: Request, query: Query) -> Response:
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != "application/x-tar":
        raise errors.UsageError(f"The content type must be application/x-tar, not {media[:60]!r}.")
    return JSONResponse(await files.unpack(query.text("path") or ".", _body(request)))


async def get_file(files: Files, request: Request, query: Query) -> Response:
    async with AsyncExitStack() as stack:
        reading = await stack.enter_async_context(files.read(query.path()))
        headers = {} if reading.size is None else {"content-length": str(reading.size)}
        headers["x-agentctl-mode"] = f"{reading.mode:04o}"
        return Download(reading.chunks, "application/octet-stream", headers, stack.pop_all())


async def archive(files: Files, request: Request, query: Query) -> Response:
    async with AsyncExitStack() as stack:
        chunks = await stack.enter_async_context(files.pack(query.text("path") or "."))
        return Download(chunks, "application/x-tar", {}, stack.pop_all())


class Download(http.EventStream):
    """Chunks as they come, until the end or until the client leaves; what they came from is closed in any case."""

    def __init__(
        self, chunks: AsyncIterator[bytes], media_type: str, headers: dict[str, str], opened: AsyncExitStack
    ) -> None:
        super().__init__(chunks, media_type=media_type, headers=headers)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened:
            await super().__call__(scope, receive, send)


async def _body(request: Request) -> AsyncIterator[bytes]:
    """The chunks of the body. Raise ``SandboxError`` when the client leaves before its end, so that nothing is kept."""
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as e:
        raise errors.SandboxError("The upload broke off; nothing of it was kept.") from e


async def _drained(request: Request) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + LINGER_S
    try:
        async with asyncio.timeout(QUIET_S) as quiet:
            async for _ in _body(request):
                quiet.reschedule(min(loop.time() + QUIET_S, end))
    except (TimeoutError, RuntimeError, errors.SandboxError):
        return  # enough, read already, or gone


def _texts(body: Json, *names: str) -> list[str]:
    values = [body.get(name) for name in names]
    if not all(isinstance(value, str) for value in values):
        raise errors.UsageError(f"The body must be a JSON object with the texts {', '.join(names)}.")
    return [str(value) for value in values]
