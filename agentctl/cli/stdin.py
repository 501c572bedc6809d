"""Standard input as a stream of bytes, read by a thread that a command need not wait for when it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator

from agentctl.errors import UsageError

_CHUNK_BYTES = 1024 * 1024


async def stdin_chunks() -> AsyncIterator[bytes]:
    """What comes on stdin, to its end. Raise ``UsageError`` when there is none or it cannot be read."""
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("There is no stdin to read.")
    loop = asyncio.get_running_loop()
    read: asyncio.Queue[bytes | OSError] = asyncio.Queue(maxsize=2)

    def work() -> None:
        more = True
        with contextlib.suppress(RuntimeError, asyncio.CancelledError):  # nobody waits for it any more
            while more:
                chunk = _read(sys.stdin.fileno())
                more = bool(chunk) and isinstance(chunk, bytes)
                asyncio.run_coroutine_threadsafe(read.put(chunk), loop).result()

    threading.Thread(target=work, daemon=True).start()
    while chunk := await read.get():
        if isinstance(chunk, OSError):
            raise UsageError(f"Cannot read stdin: {chunk.strerror}.")
        yield chunk


def _read(fd: int) -> bytes | OSError:
    try:
        return os.read(fd, _CHUNK_BYTES)
    except OSError as e:
        return e
