"""A deadline for a whole command, told as one of our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agentctl.errors import DeadlineExceeded


@asynccontextmanager
async def within(timeout_s: float | None, what: str) -> AsyncIterator[None]:
    """Cancel the block after ``timeout_s`` (None: never). Raise ``DeadlineExceeded`` then, which says ``what``."""
    try:
        async with asyncio.timeout(timeout_s) as deadline:
            yield
    except TimeoutError as e:
        if not deadline.expired():
            raise
        raise DeadlineExceeded(f"{what} was not done within {timeout_s:g} s.") from e
