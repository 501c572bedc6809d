"""HTTP to one supervisor over whatever stream the provider can open; every call has a deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from agentctl import errors
from agentctl.providers.base import Endpoint
from agentctl.supervisor_client.http import Broken, Connections, Headers, Response
from agentctl.wire import ERROR_URN, MAX_LINE_BYTES, TOKEN_HEADER

Json = dict[str, Any]
CALL_TIMEOUT_S = 30.0
SILENCE_TIMEOUT_S = 30.0
"""The supervisor sends a comment every 15 s on a quiet event stream; silence for longer means that it is gone, or that
somebody froze it."""


class Transport:
    """One supervisor's door. Use as an async context manager; both calls may raise ``SupervisorUnreachable`` (the
    stream could not be opened or broke) and the error that the supervisor answered with."""

    def __init__(self, endpoint: Endpoint, token: str) -> None:
        self._endpoint = endpoint
        door = {b"host": b"supervisor", **_lines(endpoint)}
        self.headers: Headers = [*door.items(), (TOKEN_HEADER.encode(), token.encode())]
        self._connections = Connections(self.dial)

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """One stream to the supervisor. Raise ``SupervisorUnreachable``."""
        return await self._endpoint.dial()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._connections.close()

    async def request(
        self, method: str, path: str, body: Json | None = None, *, timeout_s: float = CALL_TIMEOUT_S
    ) -> Json:
        """One request with a JSON body, answered by a JSON object (``{}`` for an empty answer)."""
        headers, content = self.headers, None
        if body is not None:
            content = json.dumps(body).encode()
            if len(content) > MAX_LINE_BYTES:
                raise errors.BodyTooLarge(
                    f"That is {len(content)} bytes with its attachments; a sandbox takes {MAX_LINE_BYTES} at once.",
                    hint="Send less, or put the files where the agent can read them.",
                )
            headers = [*headers, (b"content-type", b"application/json")]
        async with self.open(method, path, content=content, headers=headers, timeout_s=timeout_s) as response:
            said = await response.aread()
        answer: Json = json.loads(said) if said else {}
        return answer

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Headers | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        connect_timeout_s: float = 5.0,
    ) -> AsyncIterator[Response]:
        """A request whose body and answer may be streamed; ``timeout_s`` is the longest silence. A door that refuses it
        is renewed once, where that can be done and the body can be sent again."""
        may_renew = self._endpoint.renew is not None and not isinstance(content, AsyncIterator)
        while True:
            try:
                async with self._connections.request(
                    method,
                    path,
                    self._through_door(headers or self.headers),
                    content,
                    timeout_s=timeout_s,
                    connect_timeout_s=connect_timeout_s,
                ) as response:
                    if response.status < 300:
                        yield response
                        return
                    error = error_of(response.status, await response.aread())
            except Broken as e:
                raise errors.SupervisorUnreachable(f"The sandbox's supervisor broke off {method} {path}: {e}") from e
            if not may_renew or not _is_refused_at_door(response.status, error):
                raise error
            may_renew = False
            await self._renew()

    async def _renew(self) -> None:
        assert self._endpoint.renew is not None
        try:
            self._endpoint = await self._endpoint.renew()
        except (errors.NotFound, errors.SandboxError) as e:
            raise errors.SupervisorUnreachable(f"The sandbox's supervisor cannot be reached: {e.message}") from e
        self.headers = self._through_door(self.headers)

    def _through_door(self, headers: Headers) -> Headers:
        """They may have been taken down before the door was renewed."""
        door = _lines(self._endpoint)
        return [(name, door.get(name, value)) for name, value in headers]


def _lines(endpoint: Endpoint) -> dict[bytes, bytes]:
    return {name.lower().encode(): value.encode() for name, value in endpoint.headers.items()}


def _is_refused_at_door(status: int, error: errors.AgentctlError) -> bool:
    """By somebody between us and the supervisor, who wants to know who we are: it sends us to a page of its own."""
    return isinstance(error, errors.SupervisorUnreachable) and (status in (401, 403) or status < 400)


def error_of(status: int, content: bytes) -> errors.AgentctlError:
    try:
        body = json.loads(content)
        code = str(body["type"]).removeprefix(ERROR_URN)
        message = str(body["detail"])
    except (ValueError, KeyError, TypeError):
        return errors.SupervisorUnreachable(f"The sandbox's supervisor answered {status} without a reason.")
    return errors.from_code(code, message, hint=body.get("hint"), details=body.get("details"))
