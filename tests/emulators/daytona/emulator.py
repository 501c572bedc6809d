"""The emulator's server: in a thread of its own, so that a test may block and a command be another process."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tests.emulators.daytona import contract, objects
from tests.emulators.daytona.api import Api
from tests.emulators.daytona.cloud import SOURCE_API, Cloud, Refused, Sandbox, rfc3339
from tests.emulators.daytona.faults import Fault
from tests.emulators.daytona.preview import Previews
from tests.emulators.daytona.toolbox import Toolbox

T = TypeVar("T")
START_S = 30.0
NOT_EMULATED = 501


class DaytonaEmulator:
    """Use as a context manager. ``url`` is what DAYTONA_API_URL is set to; ``account()`` makes a key.

    ``log`` are all requests as (method, path, status); ``violations`` what did not keep to the contract, and
    ``unemulated`` what it has no answer to: both are to be empty after every test. ``commands`` and ``uploads`` are
    what sandboxes were told to run, and the paths that were sent to them.
    """

    _running: ClassVar[dict[str, DaytonaEmulator]] = {}

    @classmethod
    def at(cls, url: str) -> DaytonaEmulator:
        """The one of this process that listens there."""
        return cls._running[url]

    def __init__(self, root: Path) -> None:
        self.cloud = Cloud(root)
        self.previews = Previews()
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, int]] = []
        self.violations: list[str] = []
        self.unemulated: list[str] = []
        self.keys: dict[str, str] = {}
        self.commands: list[bytes] = []
        self.uploads: list[list[str]] = []
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="daytona-emulator", daemon=True)
        self._server: uvicorn.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(START_S):
            raise RuntimeError("the emulator did not start")
        self._running[self.url] = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        del self._running[self.url]
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(START_S)

    def account(self) -> str:
        """A new key, to an account that has nothing."""
        key = f"dtn_{secrets.token_hex(16)}"
        self.keys[key] = f"org-{len(self.keys)}"
        return key

    def call(self, work: Callable[[], Awaitable[T] | T]) -> T:
        """Do something in the emulator's own thread, where its state belongs; return when it is done."""

        async def run() -> T:
            result = work()
            return await result if isinstance(result, Awaitable) else result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_S)

    def sandboxes(self, key: str) -> list[Sandbox]:
        """All of an account that are not destroyed."""
        return self.call(lambda: self.cloud.listed(self.keys[key], {}))

    async def rotate(self, sandbox: Sandbox) -> None:
        """Give its previews another token; what is open breaks off."""
        sandbox.preview_token = secrets.token_hex(16)
        self.previews.break_off(sandbox)

    def reset(self) -> None:
        """Nothing is to go wrong any more, and nothing to be slow."""
        self.faults.clear()
        self.previews.refusal = 401
        self.call(self.cloud.reset)

    def volume_path(self, name: str) -> Path:
        """Where a volume lies on this host; its name has our installation in it, and is nobody else's."""
        return self.call(lambda: next(v.path for v in self.cloud.volumes.values() if v.name == name))

    def is_clean(self) -> list[str]:
        """What went wrong between SDK and emulator since it was asked last."""
        found = [*self.violations, *(f"not emulated: {call}" for call in self.unemulated)]
        self.violations.clear()
        self.unemulated.clear()
        return found

    # the server
    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _serve(self) -> None:
        config = uvicorn.Config(
            self._app(), host="127.0.0.1", port=0, lifespan="off", log_config=None, access_log=False
        )
        self._server = _Server(config, self._on_listening)
        try:
            await self._server.serve()
        finally:
            self.previews.close()
            self.cloud.close()
            await asyncio.sleep(0)

    def _on_listening(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api"
        self._listening.set()

    def _app(self) -> Any:
        toolbox = self._toolbox()
        api = Api(self.cloud, self.previews, lambda: self.url.removesuffix("/api") + "/toolbox")
        app = Starlette(
            routes=[*api.routes(), *toolbox.routes()],
            exception_handlers={Refused: _on_refused, 404: self._on_unknown, 405: self._on_unknown},
        )
        return _Gate(self, app)

    def _toolbox(self) -> Toolbox:
        return Toolbox(self.cloud, self.commands, self.uploads)

    async def _on_unknown(self, request: Request, exc: Exception) -> Response:
        self.unemulated.append(f"{request.method} {request.url.path}")
        return JSONResponse(_envelope(request, Refused(NOT_EMULATED, "not emulated")), status_code=NOT_EMULATED)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_listening: Callable[[int], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    def capture_signals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._on_listening(self.servers[0].sockets[0].getsockname()[1])


class _Gate:
    """Before every request: who it is, what is to go wrong with it, whether it keeps to the contract."""

    def __init__(self, emulator: DaytonaEmulator, app: Starlette) -> None:
        self._emulator = emulator
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        if request.url.path.startswith(f"{objects.PATH}/"):
            await self._emulator.cloud.objects.answer(request, body)(scope, receive, send)
            return
        answer = _Recorded()
        dropped = await self._answer(request, body, answer)
        emulator = self._emulator
        emulator.log.append((request.method, request.url.path, 0 if dropped else answer.status))
        if dropped:
            self._drop(scope["client"])
            return
        await answer.send_on(send)

    async def _answer(self, request: Request, body: bytes, answer: _Recorded) -> bool:
        """Whether the connection is to break instead."""
        path = request.url.path
        fault = next((f for f in self._emulator.faults if f.meets(request.method, path)), None)
        if fault is not None:
            fault.times -= 1
            await asyncio.sleep(fault.delay_s)
            if fault.after or (fault.status is None and not fault.drop):
                await self._serve(request, body, answer)
            if fault.status is not None:
                await answer.replace(request, Refused(fault.status, fault.message, headers=fault.headers))
            return fault.drop
        await self._serve(request, body, answer)
        return False

    async def _serve(self, request: Request, body: bytes, answer: _Recorded) -> None:
        account = self._emulator.keys.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if account is None:
            await answer.replace(request, Refused(401, "Invalid credentials"))
            return
        op = _operation(request.method, request.url.path)
        if op is not None:
            queries = set(parse_qs(request.url.query))
            self._emulator.violations += contract.request_faults(
                op, queries, request.headers.get("content-type", ""), body
            )
        request.scope.setdefault("state", {})["account"] = account

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(request.scope, receive, answer.send)
        if op is not None and answer.status != NOT_EMULATED:
            self._emulator.violations += contract.answer_faults(op, answer.status, answer.content_type, answer.body)
        elif answer.status != NOT_EMULATED:
            self._emulator.violations.append(f"{request.method} {request.url.path} is not in the SDK's contract")

    def _drop(self, client: tuple[str, int]) -> None:
        server = self._emulator._server
        assert server is not None
        for connection in list(server.server_state.connections):
            if getattr(connection, "client", None) == client:
                connection.transport.abort()


class _Recorded:
    """An answer, held back until it was looked at."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    @property
    def content_type(self) -> str:
        return dict(self.headers).get(b"content-type", b"").decode()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers, self.body = message["status"], list(message["headers"]), b""
        else:
            self.body += message.get("body", b"")

    async def replace(self, request: Request, refused: Refused) -> None:
        response = JSONResponse(_envelope(request, refused), status_code=refused.status, headers=refused.headers)
        await response(request.scope, request.receive, self.send)

    async def send_on(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


_DAEMON_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    408: "REQUEST_TIMEOUT",
    409: "CONFLICT",
    410: "GONE",
    422: "UNPROCESSABLE_ENTITY",
}


def _operation(method: str, path: str) -> contract.Operation | None:
    if path.startswith("/toolbox/"):
        return contract.find(contract.operations(*contract.TOOLBOX), method, "/" + path.split("/", 3)[3])
    return contract.find(contract.operations(*contract.API), method, path.removeprefix("/api"))


def _envelope(request: Request, refused: Refused) -> dict[str, Any]:
    moment = rfc3339(time.time())
    common = {"path": request.url.path, "timestamp": moment, "statusCode": refused.status, "message": refused.message}
    if request.url.path.startswith("/toolbox/"):
        code = refused.code or _DAEMON_CODES.get(refused.status, "INTERNAL_SERVER_ERROR")
        return {**common, "code": code, "source": "DAYTONA_DAEMON", "method": request.method}
    return {**common, "error": "Error", **({"code": refused.code, "source": SOURCE_API} if refused.code else {})}


async def _on_refused(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Refused)
    return JSONResponse(_envelope(request, exc), status_code=exc.status, headers=exc.headers)
