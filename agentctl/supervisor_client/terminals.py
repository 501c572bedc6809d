"""A process's terminal from the host: a websocket over whatever stream the provider can open."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import quote

from wsproto import ConnectionType, WSConnection, events
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from agentctl import errors
from agentctl.supervisor_client.transport import Transport, error_of

Json = dict[str, Any]
CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 60.0
"""The supervisor pings every 20 s; silence for longer means that it is gone."""


class Shown(NamedTuple):
    """What appears on the terminal. ``sequence`` is what ``since`` counts."""

    sequence: int
    data: bytes


class Said(NamedTuple):
    """A frame about the terminal: ``ready``, ``truncated``, ``error``, ``exit``."""

    frame: Json


class Terminal:
    """One connection, as a viewer among others. Made by ``attached``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = WSConnection(ConnectionType.CLIENT)
        self._text = ""
        self._data = b""

    async def type(self, data: bytes) -> None:
        """Give the process input. Raise ``SupervisorUnreachable`` when the connection is gone."""
        await self._frame({"type": "input", "data": base64.b64encode(data).decode(), "encoding": "base64"})

    async def resize(self, rows: int, cols: int) -> None:
        await self._frame({"type": "resize", "rows": rows, "cols": cols})

    async def messages(self) -> AsyncIterator[Shown | Said]:
        """What is shown and said, up to ``exit``. Raise ``SupervisorUnreachable`` when it breaks off before that."""
        while True:
            for event in self._connection.events():
                if isinstance(event, events.CloseConnection):
                    raise errors.SupervisorUnreachable(f"The terminal was closed: {event.code} {event.reason or ''}")
                told = await self._told(event)
                if told is not None:
                    yield told
                if isinstance(told, Said) and told.frame["type"] == "exit":
                    return
            await self._receive(SILENCE_TIMEOUT_S)

    async def _told(self, event: events.Event) -> Shown | Said | None:
        if isinstance(event, events.Ping):
            await self._send(event.response())
        elif isinstance(event, events.BytesMessage):
            self._data += event.data
            if event.message_finished:
                data, self._data = self._data, b""
                return Shown(int.from_bytes(data[:8], "big"), data[8:])
        elif isinstance(event, events.TextMessage):
            self._text += event.data
            if event.message_finished:
                text, self._text = self._text, ""
                return Said(json.loads(text))
        return None

    async def open(self, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Shake hands. Raise the error that the supervisor answers with, or ``SupervisorUnreachable``."""
        host = dict(headers)[b"host"].decode()
        others = [(name, value) for name, value in headers if name != b"host"]
        await self._send(events.Request(host=host, target=path, extra_headers=others))
        status, body = 0, b""
        while True:
            for event in self._connection.events():
                if isinstance(event, events.AcceptConnection):
                    return
                if isinstance(event, events.RejectConnection):
                    status = event.status_code
                    if not event.has_body:
                        raise error_of(status, b"")
                elif isinstance(event, events.RejectData):
                    body += event.data
                    if event.body_finished:
                        raise error_of(status, body)
            await self._receive(CONNECT_TIMEOUT_S)

    async def close(self) -> None:
        with suppress(errors.SupervisorUnreachable, LocalProtocolError):
            await self._send(events.CloseConnection(code=1000))
        self._writer.close()

    async def _frame(self, frame: Json) -> None:
        await self._send(events.Message(data=json.dumps(frame)))

    async def _send(self, event: events.Event) -> None:
        try:
            self._writer.write(self._connection.send(event))
            await self._writer.drain()
        except (OSError, LocalProtocolError) as e:
            raise errors.SupervisorUnreachable(f"The terminal's connection broke: {e}") from e

    async def _receive(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                data = await self._reader.read(256 * 1024)
            self._connection.receive_data(data or None)
        except TimeoutError as e:
            raise errors.SupervisorUnreachable(f"The terminal's connection was silent for {timeout_s:.0f} s.") from e
        except (OSError, RemoteProtocolError) as e:
            raise errors.SupervisorUnreachable(f"The terminal's connection broke: {e}") from e
        if not data:
            raise errors.SupervisorUnreachable("The terminal's connection was closed.")


@asynccontextmanager
async def attached(transport: Transport, process_id: str, *, since: int | None = None) -> AsyncIterator[Terminal]:
    """A connection to that process's terminal: what it showed lately (or after ``since``), then what comes.

    The process goes on when it is closed. Raise ``ProcessNotFound``, ``Conflict`` when it has no terminal.
    """
    terminal = Terminal(*await transport.dial())
    try:
        path = f"/v1/processes/{quote(process_id, safe='')}/terminal/ws?numbered=true"
        await terminal.open(path if since is None else f"{path}&since={since}", transport.headers)
        yield terminal
    finally:
        await terminal.close()
