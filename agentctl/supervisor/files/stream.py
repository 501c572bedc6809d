"""Between the event loop and blocking work on files: one thread hop for about a megabyte, never a thread that waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
CHUNK_BYTES = 1024 * 1024


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``work`` in a thread. Cancelled, it waits for the end of the work first: what the work uses is closed next,
    and a file descriptor that is used after that may be another file's."""
    doing = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})
        raise


async def streamed(pieces: Generator[bytes, None, None]) -> AsyncGenerator[bytes, None]:
    """What a blocking generator makes, in chunks of about ``CHUNK_BYTES``, the next of which is made while one is
    used. The generator is closed at the end."""
    making = asyncio.ensure_future(in_thread(_gathered, pieces))
    try:
        while chunk := await making:
            making = asyncio.ensure_future(in_thread(_gathered, pieces))
            yield chunk
    finally:
        await _ended(making)
        await in_thread(pieces.close)


def _gathered(pieces: Generator[bytes, None, None]) -> bytes:
    found: list[bytes] = []
    size = 0
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            break
    return found[0] if len(found) == 1 else b"".join(found)


async def consumed(chunks: AsyncIterator[bytes], take: Callable[[list[bytes]], object]) -> None:
    """Give all that comes to ``take``, which blocks, in lists of about ``CHUNK_BYTES``: one after the other, each while
    the next comes. What ``take`` raises may be raised later than it was."""
    waiting: list[bytes] = []
    size = 0
    taking: asyncio.Future[object] | None = None
    try:
        async for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size >= CHUNK_BYTES:
                if taking is not None:
                    await taking
                taking = asyncio.ensure_future(in_thread(take, waiting))
                waiting, size = [], 0
        if taking is not None:
            await taking
    finally:
        if taking is not None:
            await _ended(taking)
    if waiting:
        await in_thread(take, waiting)


async def _ended(work: asyncio.Future[Any]) -> None:
    """However it ends, it may use nothing any more that is closed next; who waits for its result has been told."""
    await asyncio.wait({work})
    if not work.cancelled():
        work.exception()
