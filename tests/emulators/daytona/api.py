"""The control plane's routes that agentctl needs; every other one is told to the test."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.emulators.daytona import objects
from tests.emulators.daytona.cloud import Cloud, Refused, Sandbox, rfc3339
from tests.emulators.daytona.preview import Previews

Json = dict[str, Any]
PAGE = 2
"""Small, so that there are always more pages."""


class Api:
    def __init__(self, cloud: Cloud, previews: Previews, toolbox_url: Callable[[], str]) -> None:
        self._cloud = cloud
        self._previews = previews
        self._toolbox_url = toolbox_url

    def routes(self) -> list[Route]:
        one = "/api/sandbox/{id}"
        return [
            Route("/api/sandbox", self.create, methods=["POST"]),
            Route("/api/sandbox", self.list),
            Route(one, self.get),
            Route(one, self.delete, methods=["DELETE"]),
            *(
                Route(f"{one}/{verb}", self._change(work), methods=["POST"])
                for verb, work in (
                    ("start", self._cloud.start),
                    ("stop", self._cloud.stop),
                    ("archive", self._cloud.archive),
                    ("pause", self._cloud.pause),
                    ("recover", self._cloud.recover),
                )
            ),
            Route(f"{one}/ports/{{port:int}}/preview-url", self.preview),
            Route(f"{one}/snapshot", self.make_snapshot, methods=["POST"]),
            Route("/api/object-storage/push-access", self.push_access),
            Route("/api/snapshots/{name}", self.snapshot),
            Route("/api/volumes", self.volumes),
            Route("/api/volumes", self.create_volume, methods=["POST"]),
            Route("/api/volumes/by-name/{name}", self.volume),
            Route("/api/volumes/{id}", self.delete_volume, methods=["DELETE"]),
        ]

    def _sandbox(self, request: Request) -> Sandbox:
        return self._cloud.get(request.state.account, request.path_params["id"])

    def _answer(self, sandbox: Sandbox) -> Response:
        return JSONResponse(sandbox.to_json(self._toolbox_url()))

    async def create(self, request: Request) -> Response:
        return self._answer(self._cloud.create(request.state.account, await request.json()))

    async def get(self, request: Request) -> Response:
        sandbox = self._sandbox(request)
        about = sandbox.to_json(self._toolbox_url())
        state, times = sandbox.stale
        if times > 0:
            sandbox.stale = (state, times - 1)
            about["state"] = state
        return JSONResponse(about)

    async def list(self, request: Request) -> Response:
        labels = json.loads(request.query_params.get("labels") or "{}")
        found = self._cloud.listed(request.state.account, labels)
        start = int(request.query_params.get("cursor") or 0)
        page = [sandbox.to_item(self._toolbox_url()) for sandbox in found[start : start + PAGE]]
        more = str(start + PAGE) if start + PAGE < len(found) else None
        return JSONResponse({"items": page, "nextCursor": more})

    async def delete(self, request: Request) -> Response:
        sandbox = self._sandbox(request)
        await self._cloud.destroy(sandbox)
        return self._answer(sandbox)

    def _change(self, work: Callable[[Sandbox], Awaitable[None]]) -> Callable[[Request], Awaitable[Response]]:
        async def change(request: Request) -> Response:
            sandbox = self._sandbox(request)
            await work(sandbox)
            return self._answer(sandbox)

        return change

    async def preview(self, request: Request) -> Response:
        sandbox = self._sandbox(request)
        url = await self._previews.url(sandbox, request.path_params["port"])
        return JSONResponse({"sandboxId": sandbox.id, "url": url, "token": sandbox.preview_token})

    async def make_snapshot(self, request: Request) -> Response:
        sandbox = self._sandbox(request)
        self._cloud.snapshot(sandbox, (await request.json())["name"])
        return self._answer(sandbox)

    async def push_access(self, request: Request) -> Response:
        url = self._toolbox_url().removesuffix("/toolbox") + objects.PATH
        keys = {"accessKey": "key", "secret": "secret", "sessionToken": "session", "region": "us-east-2"}
        owner = {"organizationId": request.state.account, "bucket": objects.BUCKET}
        return JSONResponse({**keys, **owner, "storageUrl": url})

    async def snapshot(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._cloud.snapshots:
            raise Refused(404, f"Snapshot {name} not found")
        moment = rfc3339(0)
        sizes = {"size": 1, "cpu": 1, "gpu": 0, "mem": 1, "disk": 3}
        times = {"createdAt": moment, "updatedAt": moment, "lastUsedAt": moment}
        none = dict.fromkeys(("entrypoint", "errorReason", "sourceSandboxId"))
        about = {"id": name, "name": name, "general": False, "state": "active", **sizes, **times, **none}
        return JSONResponse(about)

    async def volumes(self, request: Request) -> Response:
        own = [v.to_json() for v in self._cloud.volumes.values() if v.account == request.state.account]
        return JSONResponse(own)

    async def volume(self, request: Request) -> Response:
        return JSONResponse(self._cloud.volume(request.state.account, request.path_params["name"]).to_json())

    async def create_volume(self, request: Request) -> Response:
        name = (await request.json())["name"]
        return JSONResponse(self._cloud.create_volume(request.state.account, name).to_json())

    async def delete_volume(self, request: Request) -> Response:
        self._cloud.delete_volume(request.state.account, request.path_params["id"])
        return Response(status_code=200)
