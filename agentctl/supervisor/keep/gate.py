"""Nobody gets to see a HOME that is only half of what it was."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from agentctl.errors import AgentctlError
from agentctl.supervisor.http import problem
from agentctl.supervisor.keep.keeper import Keeper

_AT_ONCE = ("/v1/health", "/v1/shutdown")


class HomeGate:
    """Requests wait until HOME is restored, or get why it cannot be; health and shutdown do not wait."""

    def __init__(self, app: ASGIApp, keeper: Keeper) -> None:
        self._app = app
        self._keeper = keeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope["path"] not in _AT_ONCE:
            try:
                await self._keeper.home_restored()
            except AgentctlError as e:
                if scope["type"] == "websocket":
                    await WebSocket(scope, receive, send).send_denial_response(problem(e))
                else:
                    await problem(e)(scope, receive, send)
                return
        await self._app(scope, receive, send)
