"""The files of one sandbox, over its supervisor's ``/v1/fs`` routes."""

from __future__ import annotations

import os
import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from agentctl.supervisor.files.tree import Reading
from agentctl.supervisor_client.transport import Transport

Json = dict[str, Any]
WORK_TIMEOUT_S = 600.0
"""The longest silence: removing a large tree, or the pause between the last byte of an archive and the answer."""


class FilesClient:
    """The methods of ``agentctl.supervisor.files.tree.Files``, with the same promises; every one may also raise what
    ``Transport`` raises. Relative paths begin at ``base``."""

    def __init__(self, transport: Transport, base: str) -> None:
        self._transport = transport
        self._base = base

    async def entries(self, path: str) -> list[Json]:
        found: Any = await self._transport.request("GET", self._target("entries", path))
        return list(found)

    async def stat(self, path: str) -> Json:
        return await self._transport.request("GET", self._target("stat", path))

    async def delete(self, path: str, *, recursive: bool = False) -> Json:
        target = self._target("entry", path, recursive="true" if recursive else None)
        return await self._transport.request("DELETE", target, timeout_s=WORK_TIMEOUT_S)

    async def mkdir(self, path: str) -> Json:
        return await self._transport.request("POST", self._target("mkdir", path))

    async def move(self, source: str, to: str, *, overwrite: bool = False) -> Json:
        body = {"from": self._full(source), "to": self._full(to), "overwrite": overwrite}
        return await self._transport.request("POST", "/v1/fs/move", body)

    async def edit(self, path: str, old: str, new: str, *, everywhere: bool = False) -> Json:
        body = {"path": self._full(path), "old": old, "new": new, "all": everywhere}
        return await self._transport.request("POST", "/v1/fs/edit", body)

    @asynccontextmanager
    async def read(self, path: str) -> AsyncIterator[Reading]:
        async with self._transport.open("GET", self._target("file", path), timeout_s=WORK_TIMEOUT_S) as response:
            headers = {name.lower(): value for name, value in response.headers}
            length = headers.get(b"content-length")
            yield Reading(
                size=int(length) if length is not None else None,
                mode=int(headers.get(b"x-agentctl-mode", b"0644"), 8),
                chunks=response.aiter_stream(),
            )

    async def write(
        self, path: str, chunks: AsyncIterator[bytes], *, mode: int | None = None, size: int | None = None
    ) -> Json:
        target = self._target("file", path, mode=None if mode is None else f"{mode:04o}")
        return await self._upload("PUT", target, chunks, b"application/octet-stream", size)

    @asynccontextmanager
    async def pack(self, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._transport.open("GET", self._target("archive", path), timeout_s=WORK_TIMEOUT_S) as response:
            yield response.aiter_stream()

    async def unpack(self, path: str, chunks: AsyncIterator[bytes]) -> Json:
        return await self._upload("POST", self._target("upload-batch", path), chunks, b"application/x-tar")

    async def _upload(
        self, method: str, target: str, chunks: AsyncIterator[bytes], media_type: bytes, size: int | None = None
    ) -> Json:
        length = (b"transfer-encoding", b"chunked") if size is None else (b"content-length", b"%d" % size)
        headers = [*self._transport.headers, (b"content-type", media_type), length]
        async with self._transport.open(
            method, target, content=chunks, headers=headers, timeout_s=WORK_TIMEOUT_S
        ) as response:
            import json

            answer: Json = json.loads(await response.aread())
            return answer

    def _full(self, path: str) -> str:
        return posixpath.join(self._base, path)

    def _target(self, route: str, path: str, **query: str | None) -> str:
        values = {"path": os.fsencode(self._full(path)), **query}
        given = "&".join(f"{name}={quote(value)}" for name, value in values.items() if value is not None)
        return f"/v1/fs/{route}?{given}"
