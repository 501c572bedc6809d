"""Daytona's proxy: a listener of its own for each port of a sandbox, since ``*.localhost`` does not resolve everywhere.

The first request of a connection is looked at, then bytes go both ways as they come: event streams and websockets too.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.emulators.daytona.cloud import Sandbox

_REFUSED = b"HTTP/1.1 %s\r\nContent-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n%s\r\n"
_WORDS = {401: b"401 Unauthorized", 307: b"307 Temporary Redirect", 502: b"502 Bad Gateway", 404: b"404 Not Found"}


class Previews:
    """``refusal`` is what somebody without the token gets: 401, or 307 to a page where one signs in."""

    def __init__(self) -> None:
        self.refusal = 401
        self.seen: list[dict[bytes, bytes]] = []
        self._servers: dict[tuple[str, int], asyncio.Server] = {}
        self._writers: dict[str, set[asyncio.StreamWriter]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def url(self, sandbox: Sandbox, port: int) -> str:
        key = (sandbox.id, port)
        if key not in self._servers:
            self._servers[key] = await asyncio.start_server(
                lambda reader, writer: self._begin(sandbox, port, reader, writer), "127.0.0.1", 0
            )
        host, listening = self._servers[key].sockets[0].getsockname()[:2]
        return f"http://{host}:{listening}"

    def break_off(self, sandbox: Sandbox) -> None:
        """All its connections."""
        for writer in self._writers.pop(sandbox.id, set()):
            writer.transport.abort()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for server in self._servers.values():
            server.close()

    def _begin(self, sandbox: Sandbox, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(sandbox, port, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, sandbox: Sandbox, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        ours = self._writers.setdefault(sandbox.id, set())
        ours.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            refused = self._refused(sandbox, head, writer)
            if refused is not None:
                await _refuse(writer, refused)
                return
            try:
                inside = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await _refuse(writer, 502)
                return
            inside[1].write(head)
            await _tunnel((reader, writer), inside)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            ours.discard(writer)
            writer.close()

    def _refused(self, sandbox: Sandbox, head: bytes, writer: asyncio.StreamWriter) -> int | None:
        lines = [line.partition(b":") for line in head.split(b"\r\n")[1:] if line]
        headers = {name.strip().lower(): value.strip() for name, _, value in lines}
        self.seen.append(headers)
        host, port = writer.get_extra_info("sockname")[:2]
        if headers.get(b"host") != f"{host}:{port}".encode():
            return 404  # the proxy tells sandboxes by it
        if headers.get(b"x-daytona-preview-token") != sandbox.preview_token.encode() or b"authorization" in headers:
            return self.refusal
        return None if sandbox.state == "started" else 502


async def _refuse(writer: asyncio.StreamWriter, status: int) -> None:
    where = b"Location: https://daytona.invalid/login\r\n" if status == 307 else b""
    writer.write(_REFUSED % (_WORDS[status], where))
    await writer.drain()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _tunnel(outside: Streams, inside: Streams) -> None:
    """Until either side is done: HTTP/1.1 has no half of a connection."""
    pumps = [asyncio.ensure_future(_pump(outside[0], inside[1])), asyncio.ensure_future(_pump(inside[0], outside[1]))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        inside[1].close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(256 * 1024):
            writer.write(data)
            await writer.drain()
