"""A Docker engine by TCP: a port of this host that leads to the engine's socket, as for an engine elsewhere."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress


class Relay:
    """Use as a context manager; with ``tls`` (an ``SSLContext``) it is encrypted, and ``close`` and ``open`` make the
    engine unreachable for a while. It runs in a thread of its own: SDK calls block, too."""

    def __init__(self, socket, tls=None):
        self._socket = socket
        self._tls = tls
        self._port = 0
        self._transports = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        self.open()
        self.url = f"tcp://127.0.0.1:{self._port}"
        return self

    def open(self):
        start = asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._tls)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self._port = self._server.sockets[0].getsockname()[1]

    def close(self):
        """Nobody gets through any more, and every connection is broken off."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)

    def __exit__(self, *_):
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader, writer):
        self._transports.append(writer.transport)  # one with TLS waits for a farewell that may never come
        there, back = await asyncio.open_unix_connection(self._socket)
        with suppress(asyncio.CancelledError):  # by our own end
            await asyncio.gather(_pump(reader, back), _pump(there, writer), return_exceptions=True)

    async def _end(self):
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0)


async def _pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
