"""Work that is done to its end, whoever cancels it meanwhile: for clearing up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


async def settled(running: asyncio.Future[Any]) -> bool:
    """Wait until it has ended, however it ends; return whether we were cancelled meanwhile, be it twice."""
    cancelled = False
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            cancelled = True
    if not running.cancelled():
        running.exception()
    return cancelled


async def finished(work: Awaitable[T]) -> T:
    """``work`` to its end, for clearing up; a cancellation is raised after it."""
    running = asyncio.ensure_future(work)
    if await settled(running):
        raise asyncio.CancelledError
    return running.result()
