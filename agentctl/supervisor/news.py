"""Those who wait for something new: any number of coroutines of one event loop, woken together."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class News:
    """``wait`` returns at the next ``tell``; one that was told before is not remembered."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            with suppress(ValueError):
                self._waiting.remove(waiter)

    def tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
