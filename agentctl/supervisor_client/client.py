"""The host's side of ``wire.py``: HTTP to one supervisor over whatever stream the provider can open.

Every call has a deadline. A stream of events is a cursor on the session's log: it yields what follows ``offset`` and,
when the connection breaks, it is opened again after the last event seen; nothing is lost or doubled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from agentctl import errors
from agentctl.events import Event
from agentctl.supervisor_client import transport
from agentctl.supervisor_client.transport import CALL_TIMEOUT_S, Transport

Json = dict[str, Any]
START_S = 180.0
"""What a call may take more when the agent has to be started for it."""


class SupervisorClient(Transport):
    """The sessions of one supervisor. Every method may raise what ``Transport`` raises."""

    async def health(self, timeout_s: float = 5.0) -> Json:
        return await self.request("GET", "/v1/health", timeout_s=timeout_s)

    async def create_session(self, session_id: str, body: Json, *, timeout_s: float) -> Json:
        return await self.request("POST", f"/v1/sessions/{session_id}", body, timeout_s=timeout_s)

    async def snapshot(self, session_id: str, *, timeout_s: float = CALL_TIMEOUT_S) -> Json:
        return await self.request("GET", f"/v1/sessions/{session_id}", timeout_s=timeout_s)

    async def events(self, session_id: str, offset: int, *, include_raw: bool = False) -> list[Event]:
        """A page of the events after ``offset`` that are there now; empty at the end."""
        target = f"/v1/sessions/{session_id}/events?offset={offset}" + ("&include_raw=true" if include_raw else "")
        bodies = (await self.request("GET", target))["events"]
        return [Event(body["sequence"], body, json.dumps(body).encode()) for body in bodies]

    async def send(self, session_id: str, message: Json) -> Json:
        """Start a turn, or put it in line: ``{"turn_id", "status", "duplicate", "position"}``. Raise ``SessionBusy``
        while another one runs, and ``QueueFull``."""
        return await self.request("POST", f"/v1/sessions/{session_id}/messages", message)

    async def cancel(self, session_id: str, *, kill: bool = False, turn_id: str | None = None) -> Json:
        """End the running turn; with ``turn_id`` that one, running or in line."""
        body = {"kill": kill} if turn_id is None else {"kill": kill, "turnId": turn_id}
        return await self.request("POST", f"/v1/sessions/{session_id}/cancel", body)

    async def reply_permission(self, session_id: str, request_id: str, body: Json) -> None:
        await self.request("POST", f"/v1/sessions/{session_id}/permissions/{request_id}/reply", body)

    async def reply_question(self, session_id: str, request_id: str, content: Json | None) -> None:
        """Answer a question with ``content``, or decline it with None."""
        route = f"/v1/sessions/{session_id}/questions/{request_id}"
        if content is None:
            await self.request("POST", route + "/reject", {})
        else:
            await self.request("POST", route + "/reply", {"content": content})

    async def configure(self, session_id: str, changes: Json) -> Json:
        return await self.request("POST", f"/v1/sessions/{session_id}/config", changes, timeout_s=START_S + 60)

    async def call(self, session_id: str, method: str, params: Json, *, timeout_s: float = 60) -> Json:
        body = {"method": method, "params": params, "timeoutS": timeout_s}
        return await self.request("POST", f"/v1/sessions/{session_id}/call", body, timeout_s=START_S + timeout_s)

    async def release(self, session_id: str) -> None:
        """Stop its agent and close its log; whatever else lives in the sandbox goes on."""
        await self.request("POST", f"/v1/sessions/{session_id}/release", {}, timeout_s=CALL_TIMEOUT_S)

    async def shutdown(self) -> None:
        await self.request("POST", "/v1/shutdown", {}, timeout_s=10)

    async def stream(
        self, session_id: str, offset: int, *, include_raw: bool = False, retry_s: float = 3.0
    ) -> AsyncGenerator[list[Event], None]:
        """Events after ``offset`` as they are written, in batches, without end. A broken connection is opened again
        for ``retry_s``; then ``SupervisorUnreachable``."""
        deadline: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with aclosing(self._stream_once(session_id, offset, include_raw)) as batches:
                    async for batch in batches:
                        deadline = None
                        offset = batch[-1].sequence
                        yield batch
            except errors.SupervisorUnreachable:
                now = loop.time()
                deadline = deadline or now + retry_s
                if now >= deadline:
                    raise
                await asyncio.sleep(0.1)
                continue
            return

    async def _stream_once(self, session_id: str, offset: int, include_raw: bool) -> AsyncGenerator[list[Event], None]:
        target = f"/v1/sessions/{session_id}/events/sse?offset={offset}" + ("&include_raw=true" if include_raw else "")
        async with self.open("GET", target, timeout_s=transport.SILENCE_TIMEOUT_S) as response:
            parts: list[bytes] = []
            async for chunk in response.aiter_stream():
                parts.append(chunk)
                if b"\n\n" not in (b"".join((parts[-2][-1:], chunk)) if len(parts) > 1 else chunk):
                    continue  # one event may be a hundred megabytes: it is put together once
                *blocks, rest = b"".join(parts).split(b"\n\n")
                parts = [rest] if rest else []
                if batch := _events_of(blocks):
                    yield batch


def _events_of(blocks: Iterable[bytes]) -> list[Event]:
    lines = [b[at + 6 :] for b in blocks if (at := b.find(b"data: ")) >= 0 and not b.startswith(b":")]
    bodies = json.loads((b"[%b]" % b",".join(lines)).decode())  # twice as fast as each for itself
    return [Event(body["sequence"], body, line) for body, line in zip(bodies, lines, strict=True)]
