"""A family of routes whose module is imported at its first request: a supervisor's start does not pay for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module

from starlette.routing import BaseRoute, Match, Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from agentctl.supervisor.supervisor import Supervisor

Routes = Callable[[Supervisor], list[BaseRoute]]


def lazy_mount(path: str, module: str, supervisor: Supervisor) -> Mount:
    """``module`` (below ``agentctl.supervisor``) has ``routes(supervisor)``; their paths go on after ``path``."""
    return _WithItself(path, app=_Lazy(module, supervisor))


class _WithItself(Mount):
    """Its own path, without a slash at the end, is the route ``/`` of the family."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http" or scope["path"] != self.path:
            return super().matches(scope)
        path = scope["path"] + "/"
        match, child = super().matches({**scope, "path": path})
        return match, {**child, "path": path}


class _Lazy:
    def __init__(self, module: str, supervisor: Supervisor) -> None:
        self._module = module
        self._supervisor = supervisor
        self._router: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._router is None:
            module = await asyncio.to_thread(import_module, f"agentctl.supervisor.{self._module}")
            make: Routes = module.routes
            self._router = Router(make(self._supervisor), redirect_slashes=False)
        await self._router(scope, receive, send)
