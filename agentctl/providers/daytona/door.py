"""The way to a supervisor: Daytona's preview proxy, by the address and the token that it gives for a port.

The proxy takes ``Authorization`` for itself; our own token goes in a header of ours. Its token changes when a sandbox
is started again, and whenever Daytona likes: ``Endpoint.renew`` asks for it anew.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from agentctl.errors import SandboxError, SupervisorUnreachable
from agentctl.providers.base import Dial, Endpoint
from agentctl.providers.daytona.client import Account, call, connected
from agentctl.providers.tls_door import dial_tls

PREVIEW_TOKEN = "x-daytona-preview-token"  # noqa: S105 - the name of a header
NO_WARNING = "X-Daytona-Skip-Preview-Warning"
_LATER = "The next message to its session brings a new one."


async def endpoint_to(account: Account, sandbox: Any, port: int) -> Endpoint:
    """The door, as it is now. Raise ``NotFound`` when the sandbox is gone."""
    link = await call("say where the sandbox is reached", lambda: sandbox.get_preview_link(port))
    daytona_id = sandbox.id

    async def renew() -> Endpoint:
        async with connected(account) as daytona:
            again = await call("look for the sandbox", lambda: daytona.get(daytona_id))
            return await endpoint_to(account, again, port)

    headers = {"Host": urlsplit(link.url).netloc, PREVIEW_TOKEN: link.token, NO_WARNING: "true"}
    return Endpoint(dial=_dial_to(link.url), headers=headers, renew=renew)


def _dial_to(url: str) -> Dial:
    parts = urlsplit(url)
    host, tls = parts.hostname, parts.scheme == "https"
    if not host or parts.path not in ("", "/"):
        raise SandboxError(f"Daytona names an address that agentctl cannot use: {url}")
    port = parts.port or (443 if tls else 80)

    if tls:
        return lambda: dial_tls(host, port)

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_connection(host, port)
        except OSError as e:
            raise SupervisorUnreachable(
                f"Daytona's proxy {host} does not answer: {e.strerror or e}.", hint=_LATER
            ) from e

    return dial
