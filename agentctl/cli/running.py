"""The door to asyncio for commands: it is imported when one runs, not when its help is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts


def run_async(body: Callable[[Interrupts], Awaitable[int | None]]) -> int:
    """Run a command's body in an event loop and return its exit code, or the one that a signal asks for."""
    import asyncio

    from agentctl.cli.interrupts import guarded

    return asyncio.run(guarded(body))
