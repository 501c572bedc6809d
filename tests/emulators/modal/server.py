"""The emulator's server: both of Modal's services on one port, in a thread with a loop of its own.

The unpatched SDK is pointed at it by ``environment()``. An RPC that is not emulated is noted in ``unimplemented`` and
answered so; a test demands that list to be empty. ``faults`` are what goes wrong on purpose.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import trustme
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server
from modal_proto.api_grpc import ModalClientBase
from modal_proto.task_command_router_grpc import TaskCommandRouterBase

from tests.emulators.modal.blocks import BlockServer
from tests.emulators.modal.control import JWT, Control
from tests.emulators.modal.router import Router
from tests.emulators.modal.volumes import Volumes

TOKEN_ID, TOKEN_SECRET = "ak-emulated", "as-emulated"


@dataclass
class Fault:
    """The next ``n`` calls of ``rpc`` fail. ``late``: the work is done all the same, only the answer is lost.
    ``hold``: the call waits for this event first."""

    rpc: str
    status: Status
    message: str = "out of order"
    n: int = 1
    late: bool = False
    hold: threading.Event | None = None


class _Server(Server):
    """One whose connections can be closed with it."""

    def __init__(self, services):
        super().__init__(services)
        self._protocols = []

    def _protocol_factory(self):
        self._protocols.append(super()._protocol_factory())
        return self._protocols[-1]

    def close_connections(self):
        for protocol in self._protocols:
            transport = getattr(protocol.connection, "_transport", None)
            if transport is not None:
                transport.abort()


class ModalEmulator:
    """Use as a context manager; ``root`` is where its sandboxes and volumes lie."""

    _running: ClassVar[dict[str, ModalEmulator]] = {}

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reach: tuple[int, ...] = ()
        """Ports of this host's loopback that sandboxes with a network, made from now on, see as their own."""

        self.faults: list[Fault] = []
        self.calls: list[str] = []
        self.unimplemented: list[str] = []
        self.volume_lag = False
        """Whether a sandbox works on a copy of a volume, which becomes the volume when the sandbox ends in order."""

        self.tls = trustme.CA()
        self.ca_file = root / "ca.pem"
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="modal-emulator", daemon=True)

    def __enter__(self) -> ModalEmulator:
        self.root.mkdir(parents=True, exist_ok=True)
        self.tls.cert_pem.write_to_path(str(self.ca_file))
        self._thread.start()
        self._ready.wait(30)
        if self._failure is not None:
            raise self._failure
        self._running[self.url] = self
        return self

    def __exit__(self, *_) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the emulator did not end"

    @classmethod
    def at(cls, url: str) -> ModalEmulator:
        """The one that serves there."""
        return cls._running[url]

    def reset(self) -> None:
        """No faults, and nothing unusual."""
        self.faults.clear()
        self.calls.clear()
        self.volume_lag = False
        self.reach = ()
        self.control.broken_images.clear()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What points the SDK, and nothing else, at this emulator."""
        return {
            "MODAL_SERVER_URL": self.url,
            "MODAL_TOKEN_ID": TOKEN_ID,
            "MODAL_TOKEN_SECRET": TOKEN_SECRET,
            "MODAL_CONFIG_PATH": str(self.root / "no-such-file.toml"),
            "SSL_CERT_FILE": str(self.ca_file),
        }

    def run(self, work):
        """A coroutine in the emulator's own loop, from any thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as e:
            self._failure = e
            self._ready.set()
            raise

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with BlockServer() as blocks:
            self.volumes = Volumes(self.root / "volumes", blocks)
            self.control = Control(self)
            service = self._service(ModalClientBase, (self.control, self.volumes), self._check_tokens)
            router = self._service(TaskCommandRouterBase, (Router(self.control),), self._check_jwt)
            server = _Server([service, router])
            await server.start("127.0.0.1", 0)
            self.port = server._server.sockets[0].getsockname()[1]
            self._ready.set()
            try:
                await self._stop.wait()
            finally:
                await self.control.close()
                server.close()
                server.close_connections()
                with suppress(TimeoutError):
                    async with asyncio.timeout(2):
                        await server.wait_closed()
                await asyncio.sleep(0)  # lets the connections be closed

    def _service(self, base, parts, check):
        methods = {}
        for name in base.__abstractmethods__:
            if not name.startswith("__"):
                work = next((getattr(part, name) for part in parts if hasattr(part, name)), None)
                methods[name] = self._handler(name, work, check)
        return type(f"Emulated{base.__name__}", (base,), methods)()

    def _handler(self, name, work, check):
        async def handle(_, stream):
            self.calls.append(name)
            check(stream.metadata)
            if work is None:
                self.unimplemented.append(name)
                raise GRPCError(Status.UNIMPLEMENTED, f"{name} is not emulated")
            fault = await self._fault(name)
            if fault is not None and not fault.late:
                raise GRPCError(fault.status, fault.message)
            await _answer(work, stream)
            if fault is not None:
                raise GRPCError(fault.status, fault.message)

        return handle

    async def _fault(self, name):
        fault = next((fault for fault in self.faults if fault.rpc == name and fault.n > 0), None)
        if fault is None:
            return None
        fault.n -= 1
        if fault.hold is not None:
            await asyncio.to_thread(fault.hold.wait, 30)
        return None if fault.status is Status.OK else fault

    def _check_tokens(self, metadata):
        if (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret")) != (TOKEN_ID, TOKEN_SECRET):
            raise GRPCError(Status.UNAUTHENTICATED, "Token validation failed")

    def _check_jwt(self, metadata):
        if metadata.get("authorization") != f"Bearer {JWT}":
            raise GRPCError(Status.UNAUTHENTICATED, "not for you")


async def _answer(work, stream):
    """``work`` takes a request and returns a response or yields many; or takes the stream itself, as ``stream``."""
    if "stream" in inspect.signature(work).parameters:
        await work(stream)
        return
    request = await stream.recv_message()
    answer = work(request)
    if inspect.isasyncgen(answer):
        async for message in answer:
            await stream.send_message(message)
    else:
        await stream.send_message(await answer)
