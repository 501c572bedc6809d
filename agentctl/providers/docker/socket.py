"""Connecting to a socket however long its path is: the system takes 107 bytes, a state directory may have more."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from agentctl.errors import SupervisorUnreachable

_LONGEST = 100


async def dial_socket(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One stream. Raise ``SupervisorUnreachable``."""
    try:
        if len(os.fsencode(path)) <= _LONGEST:
            return await asyncio.open_unix_connection(path)
        directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
        try:
            # Only Linux has it, and only an engine on Linux lends sockets.
            return await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
    except OSError as e:
        raise SupervisorUnreachable(
            f"The supervisor does not answer on {path}: {e.strerror}.",
            hint="The next message to its session brings a new one.",
        ) from e
