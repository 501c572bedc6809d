"""One plain client for every server that is measured: blocking sockets, so that its own share is small and the same."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse
from types import TracebackType
from typing import Any, Self

TIMEOUT_S = 20.0
READ_BYTES = 1 << 16
KEPT_S = 2.0
"""Servers close what is idle for some seconds: before that, another connection takes its place."""

Json = dict[str, Any]


class HttpDoor:
    """A server: one connection for what is posted, one for its stream. Use as a context manager."""

    def __init__(self, dial: Callable[[], socket.socket], headers: Mapping[str, str]) -> None:
        self._dial = dial
        self._headers = {"accept": "*/*", **headers}
        self._posts = self._connection()
        self._posted = time.monotonic()
        self._streams: list[tuple[HTTPConnection, HTTPResponse]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection, response in self._streams:
            response.close()
            connection.close()
        self._posts.close()

    def post(self, path: str, body: Json) -> bytes:
        """Send and wait for the answer."""
        self.send(path, body)
        return self.answer()

    def send(self, path: str, body: Json) -> None:
        """Only send; ``answer`` is to follow before the next."""
        if time.monotonic() - self._posted > KEPT_S:
            self._posts.close()
            self._posts = self._connection()
        self._posts.request("POST", path, json.dumps(body), {**self._headers, "content-type": "application/json"})

    def answer(self) -> bytes:
        response = self._posts.getresponse()
        said = response.read()
        self._posted = time.monotonic()
        assert response.status < 300, (response.status, said)
        return said

    def lines(self, path: str) -> Iterator[bytes]:
        """The lines of a stream of events, as they come; they end with a silence of ``TIMEOUT_S``."""
        connection = self._connection()
        connection.request("GET", path, headers={**self._headers, "accept": "text/event-stream"})
        response = connection.getresponse()
        assert response.status == 200, response.status
        self._streams.append((connection, response))
        return _lines(response)

    def _connection(self) -> HTTPConnection:
        connection = HTTPConnection("localhost", timeout=TIMEOUT_S)
        connection.sock = self._dial()
        connection.sock.settimeout(TIMEOUT_S)
        return connection


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    rest = b""
    while part := response.read1(READ_BYTES):
        *whole, rest = (rest + part).split(b"\n")
        yield from whole
