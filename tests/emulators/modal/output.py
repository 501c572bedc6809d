"""What a process says: kept, and read by offset while it grows, as the command router serves it."""

from __future__ import annotations

import asyncio


class Output:
    """One stream of a process. ``read`` gives what follows an offset, and ends when the stream has ended."""

    def __init__(self):
        self.data = bytearray()
        self._ended = False
        self._news = asyncio.Condition()

    async def fill(self, stream):
        while chunk := await stream.read(65536):
            async with self._news:
                self.data += chunk
                self._news.notify_all()
        async with self._news:
            self._ended = True
            self._news.notify_all()

    async def read(self, offset):
        """Yield ``(offset, bytes)``."""
        while True:
            async with self._news:
                while len(self.data) <= offset and not self._ended:
                    await self._news.wait()
                chunk = bytes(self.data[offset : offset + 1024 * 1024])
            if not chunk:
                return
            yield offset, chunk
            offset += len(chunk)


class Input:
    """The stdin of a process, written by offset: what was written twice arrives once."""

    def __init__(self, writer):
        self._writer = writer
        self._written = 0
        self.closed = False

    @property
    def written(self):
        return self._written

    async def write(self, offset, data, *, eof):
        """Raise ``LookupError`` for a gap."""
        if offset > self._written:
            raise LookupError(f"stdin was written up to {self._written}, not to {offset}")
        fresh = data[self._written - offset :]
        try:
            if fresh:
                self._writer.write(fresh)
                self._written += len(fresh)
                await self._writer.drain()
        except OSError:
            return  # it has ended, or wants no more
        if eof and not self.closed:
            self.closed = True
            self._writer.close()
