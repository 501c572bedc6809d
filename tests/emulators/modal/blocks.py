"""Where the blocks of volume files are put and fetched: plain HTTP, as the real service's signed URLs."""

from __future__ import annotations

import hashlib
import secrets
from typing import Self

from aiohttp import web


class BlockServer:
    """``contents`` are all blocks that were put, by sha256; ``give`` makes a URL for one."""

    def __init__(self):
        self.contents: dict[bytes, bytes] = {}
        self._given: dict[str, bytes] = {}

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_put("/block", self._put)
        app.router.add_get("/block/{name}", self._get)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/block"
        return self

    async def __aexit__(self, *_) -> None:
        await self._runner.cleanup()

    @property
    def put_url(self):
        return self._url

    def give(self, data):
        name = secrets.token_hex(8)
        self._given[name] = data
        return f"{self._url}/{name}"

    async def _put(self, request):
        data = await request.read()
        digest = hashlib.sha256(data).digest()
        self.contents[digest] = data
        return web.Response(body=digest)

    async def _get(self, request):
        return web.Response(body=self._given.pop(request.match_info["name"]))
