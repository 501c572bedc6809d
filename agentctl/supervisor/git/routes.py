"""``POST /v1/git/clone``, and ``DELETE``, which takes back what was cloned (``wire.py``)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agentctl import errors
from agentctl.supervisor import http
from agentctl.supervisor.git.clone import Repositories
from agentctl.supervisor.git.request import clones_of
from agentctl.supervisor.supervisor import Supervisor

T = TypeVar("T")
_TOUCH_S = 0.5


def routes(supervisor: Supervisor) -> list[BaseRoute]:
    """Below ``/v1/git``."""
    git = GitRoutes(supervisor)
    return [
        Route("/clone", git.clone, methods=["POST"]),
        Route("/clone", git.take_back, methods=["DELETE"]),
    ]


class GitRoutes:
    """One method per route."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._repositories = Repositories(supervisor.boot)

    async def clone(self, request: Request) -> Response:
        """A client that goes away in the midst of it ends it, and nothing is left."""
        body = await http.json_body(request)
        boot = self._supervisor.boot
        clones = clones_of(body, boot.home, boot.root)
        made = await self._while_wanted(self._repositories.clone(clones), request)
        return http.answer({"repositories": made} if "clones" in body else made[0])

    async def take_back(self, request: Request) -> Response:
        body = await http.json_body(request)
        paths = body.get("paths")
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise errors.UsageError('What is to be taken back is {"paths": […]}.')
        return http.answer({"removed": await self._repositories.take_back(paths)})

    async def _while_wanted(self, work: Coroutine[Any, Any, T], request: Request) -> T:
        """Do it as long as the client is there; the supervisor does not think itself idle meanwhile."""
        working = asyncio.create_task(work)
        gone = asyncio.create_task(_disconnected(request))
        try:
            while not working.done():
                self._supervisor.touch()
                await asyncio.wait({working, gone}, timeout=_TOUCH_S, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    break
            if not working.done():
                working.cancel()
                await asyncio.wait({working})
            if working.cancelled():
                raise errors.GitFailed("The clone was given up: nobody waits for it any more.")
            return working.result()
        finally:
            gone.cancel()
            working.cancel()
            await asyncio.wait({working, gone})


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
