"""The way to a sandbox's supervisor: TLS to the name and port that Modal gave to its port.

Whoever knows the name gets as far as the supervisor, which wants its own token of everybody.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from agentctl.providers.base import Endpoint
from agentctl.providers.tls_door import dial_tls
from agentctl.wire import TOKEN_HEADER

LEAVE_S = 10.0
_SHUTDOWN = "POST /v1/shutdown HTTP/1.1\r\nHost: supervisor\r\n{}: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def endpoint_to(host: str, port: int) -> Endpoint:
    return Endpoint(dial=lambda: dial_tls(host, port))


async def ask_to_leave(endpoint: Endpoint, token: str) -> bool:
    """Let the supervisor end what runs and write what is unwritten. Return whether it has heard."""
    with suppress(OSError, TimeoutError, ValueError, IndexError):
        async with asyncio.timeout(LEAVE_S):
            reader, writer = await endpoint.dial()
            try:
                writer.write(_SHUTDOWN.format(TOKEN_HEADER, token).encode())
                await writer.drain()
                return (await reader.readline()).split()[1] == b"202"
            finally:
                writer.close()
    return False
