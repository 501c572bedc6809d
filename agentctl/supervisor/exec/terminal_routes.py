"""``/v1/processes/{id}/terminal/ws``: a process's terminal for any number of viewers, in sandbox-agent 0.4's frames.

A viewer follows the process's log: first what was shown lately, then what comes; so nothing is lost or shown twice.
Beyond the peer: ``numbered=true`` puts 8 bytes before every binary frame, the number of its log entry, and ``since``
goes on after such a number; ``{"type":"truncated"}`` says that earlier output is not there any more; the close frame's
reason tells the exit code.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from contextlib import aclosing, suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from agentctl.errors import AgentctlError, Conflict, UsageError
from agentctl.supervisor import http
from agentctl.supervisor.exec.log import Page
from agentctl.supervisor.exec.process import UserProcess
from agentctl.supervisor.exec.processes import UserProcesses
from agentctl.supervisor.exec.spec import terminal_size

Json = dict[str, Any]
SCROLL_BACK_BYTES = 256 * 1024
NORMAL = 1000


class Terminals:
    """The websocket's two routes: the upgrade, and a plain request to its path."""

    def __init__(self, processes: UserProcesses) -> None:
        self._processes = processes

    async def refuse(self, request: Request) -> Response:
        raise UsageError("This is a websocket.", hint="Connect with an upgrade to websocket.")

    async def attach(self, socket: WebSocket) -> None:
        """404 and 409 come before the upgrade. The process goes on when a viewer leaves."""
        try:
            process = self._processes.get(socket.path_params["id"])
            if not process.record.tty:
                raise Conflict(f"Process {process.record.id} has no terminal.", hint="Start it with tty.")
            start = _since(socket, process)
        except AgentctlError as e:
            await socket.send_denial_response(http.problem(e))
            return
        await socket.accept()
        viewer = _Viewer(socket, process, numbered=socket.query_params.get("numbered") == "true")
        await viewer.serve(start)


def _since(socket: WebSocket, process: UserProcess) -> int | None:
    text = socket.query_params.get("since")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text[:18]) > process.log.last:
        raise UsageError(f"Entry {text[:40]!r} was never written: the last one is {process.log.last}.")
    return int(text)


class _Viewer:
    """One connection."""

    def __init__(self, socket: WebSocket, process: UserProcess, *, numbered: bool) -> None:
        self._socket = socket
        self._process = process
        self._numbered = numbered

    async def serve(self, since: int | None) -> None:
        self._process.viewer_came()
        listening = asyncio.create_task(self._listen())
        showing = asyncio.create_task(self._show(since))
        try:
            await asyncio.wait((listening, showing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._process.viewer_left()
            listening.cancel()
            showing.cancel()
            await asyncio.gather(listening, showing, return_exceptions=True)
            if self._socket.application_state is WebSocketState.CONNECTED:
                with suppress(RuntimeError, WebSocketDisconnect):
                    await self._socket.close(NORMAL)

    async def _show(self, since: int | None) -> None:
        await self._say({"type": "ready", "processId": self._process.record.id})
        after, is_cut = (since, False) if since is not None else self._scroll_back()
        if is_cut:
            await self._say({"type": "truncated", "firstSequence": after + 1})
        async with aclosing(self._process.log.follow(after, ("pty",))) as pages:
            async for page in pages:
                await self._send_page(page)
        record = self._process.record
        await self._say({"type": "exit", "exitCode": record.exit_code, "signal": record.signal, "lost": record.lost})
        reason = f"signal {record.signal}" if record.signal else f"exit {record.exit_code}"
        await self._socket.close(NORMAL, reason)

    async def _send_page(self, page: Page) -> None:
        if page.gap is not None:
            await self._say({"type": "truncated", "firstSequence": page.gap})
        if self._numbered:
            for entry in page.entries:
                await self._socket.send_bytes(entry.sequence.to_bytes(8, "big") + entry.data)
        elif data := b"".join(entry.data for entry in page.entries):
            await self._socket.send_bytes(data)
        if lost := sum(entry.lost for entry in page.entries):
            await self._say({"type": "truncated", "lostBytes": lost})

    def _scroll_back(self) -> tuple[int, bool]:
        """Where the output of late begins, and whether there was more before it."""
        return self._process.log.before_last(SCROLL_BACK_BYTES)

    async def _listen(self) -> None:
        """Until the viewer closes or goes away."""
        with suppress(WebSocketDisconnect):
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect" or not await self._obey(message):
                    return

    async def _obey(self, message: Any) -> bool:
        """Do what a frame says; False for ``close``. A bad one is answered by an error frame."""
        try:
            frame = _frame(message)
            if frame["type"] == "input":
                await self._type(_input(frame))
            elif frame["type"] == "resize":
                self._process.resize(*terminal_size(frame))
            elif frame["type"] == "close":
                return False
            else:
                raise UsageError("A frame is of type input, resize or close.")
        except AgentctlError as e:
            await self._say({"type": "error", "message": e.message})
        return True

    async def _type(self, data: bytes) -> None:
        while data:
            data = data[await self._process.write(data) :]

    async def _say(self, frame: Json) -> None:
        await self._socket.send_text(json.dumps({name: value for name, value in frame.items() if value is not None}))


def _frame(message: Any) -> Json:
    text = message.get("text")
    if text is None:
        raise UsageError("Binary frames are not taken: send input as text.")
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UsageError(f"The frame is not JSON: {e}") from e
    if not isinstance(frame, dict):
        raise UsageError("A frame is a JSON object.")
    return {"type": None, **frame}


def _input(frame: Json) -> bytes:
    data, encoding = frame.get("data"), frame.get("encoding") or "text"
    if not isinstance(data, str):
        raise UsageError("data must be a text.")
    if encoding in ("text", "utf8"):
        return data.encode("utf-8", "surrogateescape")
    if encoding != "base64":
        raise UsageError("encoding is text or base64.")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as e:
        raise UsageError(f"data is not base64: {e}.") from None
