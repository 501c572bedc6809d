"""The supervisor's HTTP server: uvicorn on a listener. Importing it is half of a start, and nothing waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Generator
from typing import Any

import uvicorn
import uvicorn.lifespan.off
import uvicorn.protocols.http.h11_impl

from agentctl.supervisor.app import build_app
from agentctl.supervisor.supervisor import Supervisor
from agentctl.wire import Boot

LAST_ANSWERS_S = 2.0


MAX_FRAME_BYTES = 1024 * 1024


class _LateWebSocket(asyncio.Protocol):
    """uvicorn's websocket protocol, imported by the first upgrade: no start waits for it."""

    def __new__(cls, *args: Any, **named: Any) -> Any:
        from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

        return WSProtocol(*args, **named)


class Server(uvicorn.Server):
    """uvicorn, told to end by the supervisor: signals, ``/v1/shutdown`` and idleness are one and the same way out."""

    def __init__(self, supervisor: Supervisor, boot: Boot) -> None:
        super().__init__(
            uvicorn.Config(
                build_app(supervisor, boot.token),
                loop="asyncio",
                http="h11",
                ws=_LateWebSocket,
                ws_max_size=MAX_FRAME_BYTES,
                ws_per_message_deflate=False,
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                backlog=128,
            )
        )
        self._supervisor = supervisor
        self._leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """They are the supervisor's, from before this was imported."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._supervisor.start(self._leave)

    async def main_loop(self) -> None:
        """Sleep until it is time to leave; uvicorn's own loop wakes ten times a second to see whether it is."""
        await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers that are under way finish, without uvicorn's fixed waits: every release would wait for them."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = time.monotonic() + LAST_ANSWERS_S
        while self.server_state.connections and time.monotonic() < deadline:  # noqa: ASYNC110 — uvicorn has no event
            await asyncio.sleep(0.005)

    def _leave(self) -> None:
        self._leaving.set()
