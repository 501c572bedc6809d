"""A stream over TLS to a supervisor that a cloud's own door stands before."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl

from agentctl.errors import SupervisorUnreachable

CONNECT_S = 15.0
_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR")


async def dial_tls(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """One stream to whoever has a certificate for ``host``. Raise ``SupervisorUnreachable``."""
    try:
        async with asyncio.timeout(CONNECT_S):
            return await asyncio.open_connection(host, port, ssl=_context(*map(os.environ.get, _TRUST)))
    except (OSError, TimeoutError) as e:  # a certificate that is not trusted is an OSError, too
        said = getattr(e, "strerror", None) or str(e) or f"no connection within {CONNECT_S:g} s"
        raise SupervisorUnreachable(
            f"The supervisor does not answer at {host}:{port}: {said}.",
            hint="The next message to its session brings a new one.",
        ) from e


@functools.cache
def _context(*trust: str | None) -> ssl.SSLContext:
    """Made once for what the environment says of whom to trust: it takes 20 ms."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        return ssl.create_default_context()
    import certifi  # a Python without a system's certificates

    return ssl.create_default_context(cafile=certifi.where())
