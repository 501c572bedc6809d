"""The forward proxy: ``CONNECT`` and plain HTTP to what its policy allows, on a network that leads nowhere else.

Run as ``egress NAME PORT HOST:PORT …``; it listens on the address that ``NAME`` has, and says ``ready`` when it does.
Names are resolved here and the connection goes to the address that was judged: a second look-up could answer otherwise.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from agentctl.supervisor.egress.policy import Policy, Target, target_of
from agentctl.supervisor.egress.refused import NOT_LISTED, NOT_PUBLIC, Refused

HEADER = "X-Agentctl-Network"
MOST_CONNECTIONS = 200
HEAD_BYTES = 32 * 1024
HEAD_S = 30.0
RESOLVE_S = 10.0
CONNECT_S = 15.0
LINGER_S = 2.0
IDLE_S = 3600.0
"""A model may think for long; a connection of which nothing is heard for so long is given up."""

_CHUNK_BYTES = 32 * 1024
_RESOLVERS = 8
_HTTP_PORT = 80
_ABSOLUTE = re.compile(r"http://([^/?#@]*)([^#]*)", re.IGNORECASE)
_OWN_HEADERS = ("host", "connection", "keep-alive")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Refusal(Exception):
    """An answer instead of what was asked for."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Asked(NamedTuple):
    """``head`` is what the target is sent first; None where the client itself begins (CONNECT)."""

    target: Target
    head: bytes | None


def asked_of(head: bytes) -> Asked:
    """Raise ``Refusal`` for what is no request to a proxy."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Refusal("400 Bad Request", "This is not a request of HTTP/1.1.")
    method, where, _ = words
    try:
        if method == "CONNECT":
            return Asked(target_of(where), None)
        absolute = _ABSOLUTE.fullmatch(where)
        if absolute is None:
            raise Refusal("400 Bad Request", "This is a proxy: ask it for http://HOST/…, or CONNECT HOST:PORT.")
        target = target_of(absolute[1], _HTTP_PORT)
    except ValueError as e:
        raise Refusal("400 Bad Request", "The request names no host and port that could be.") from e
    path = absolute[2] if absolute[2].startswith("/") else f"/{absolute[2]}"
    passed = [line for line in lines[1:] if line and not _is_own(line)]
    new = [f"{method} {path} HTTP/1.1", f"Host: {absolute[1]}", "Connection: close", *passed, "", ""]
    return Asked(target, "\r\n".join(new).encode("latin-1"))


def _is_own(line: str) -> bool:
    name = line.partition(":")[0].strip().lower()
    return name in _OWN_HEADERS or name.startswith("proxy-")


class Proxy:
    """Serves one client after the other's head was judged."""

    def __init__(self, policy: Policy, refused: Refused) -> None:
        self._policy = policy
        self._refused = refused
        self._connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its last. A broken one is nobody's error."""
        self._connections += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._serve(reader, writer)
        finally:
            self._connections -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._connections > MOST_CONNECTIONS:
                raise Refusal("503 Service Unavailable", "There are too many connections at once.")
            async with asyncio.timeout(HEAD_S):
                asked = asked_of(await reader.readuntil(b"\r\n\r\n"))
            async with self._connected(asked.target) as (from_target, to_target):
                if asked.head is None:
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    to_target.write(asked.head)
                await _both_ways((reader, writer), (from_target, to_target))
        except Refusal as refusal:
            await _answer(reader, writer, refusal)

    @asynccontextmanager
    async def _connected(self, target: Target) -> AsyncIterator[Streams]:
        if not self._policy.allows(target):
            raise self._refusal(target, NOT_LISTED)
        addresses = await _resolved(target)
        fit = [address for address in addresses if self._policy.reaches(address, target.port)]
        if not fit:
            raise self._refusal(target, NOT_PUBLIC)
        reader, writer = await _first(fit, target)
        try:
            yield reader, writer
        finally:
            writer.close()

    def _refusal(self, target: Target, why: str) -> Refusal:
        self._refused.add(target.host, target.port, why)
        text = f"The network policy of this sandbox does not let it reach {target}: {why}."
        return Refusal("403 Forbidden", text)


async def _resolved(target: Target) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as e:
        raise Refusal("502 Bad Gateway", f"{target.host} cannot be found.") from e
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _first(addresses: list[str], target: Target) -> Streams:
    """The first that answers; each gets its part of the time."""
    for address in addresses:
        with suppress(OSError):
            async with asyncio.timeout(CONNECT_S / len(addresses)):
                return await asyncio.open_connection(address, target.port, limit=_CHUNK_BYTES)
    raise Refusal("502 Bad Gateway", f"{target} does not answer.")


async def _both_ways(client: Streams, target: Streams) -> None:
    """Until both have said all that they had to say, or one is gone."""
    for _, writer in (client, target):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    there = asyncio.ensure_future(_pump(client[0], target[1]))
    back = asyncio.ensure_future(_pump(target[0], client[1]))
    try:
        await asyncio.gather(there, back)
    finally:
        there.cancel()
        back.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        async with asyncio.timeout(IDLE_S):
            data = await reader.read(_CHUNK_BYTES)
        if not data:
            break
        writer.write(data)
        async with asyncio.timeout(IDLE_S):
            await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refusal: Refusal) -> None:
    """What the client still sends is read for a moment: closing before that would take the answer from it."""
    body = f"agentctl: {refusal.text}\n".encode()
    head = [
        f"HTTP/1.1 {refusal.status}",
        f"{HEADER}: {'refused' if refusal.status.startswith('403') else 'failed'}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    async with asyncio.timeout(LINGER_S):
        await writer.drain()
        writer.write_eof()
        while await reader.read(_CHUNK_BYTES):
            pass


async def run(name: str, port: int, listed: list[str]) -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_RESOLVERS))
    proxy = Proxy(Policy(listed), Refused())
    own = socket.gethostbyname(name)
    server = await asyncio.start_server(proxy.serve, own, port, limit=HEAD_BYTES)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


def main() -> int:
    """``NAME PORT HOST:PORT …``"""
    name, port, *listed = sys.argv[1:]
    asyncio.run(run(name, int(port), listed))
    return 0
