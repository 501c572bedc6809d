"""A client of the raw ACP routes, over the supervisor's real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json

from agentctl.supervisor_client.http import Broken
from tests.supervisor.support import IN_TIME, TOKEN, ask

INITIALIZE = {"protocolVersion": 1, "clientCapabilities": {}}


class Envelope(dict):
    """What one event of the stream carried, with its number and its bytes."""

    def __init__(self, number: int, data: bytes) -> None:
        super().__init__(json.loads(data))
        self.number = number
        self.bytes = data


class RawClient:
    """Speaks to one server id. ``answer`` and ``until`` read on from where they were."""

    def __init__(self, running, server_id: str = "s1", agent: str | None = "mock") -> None:
        self.connections = running.connections()
        self.path = f"/v1/acp/{server_id}"
        self.agent = agent
        self.seen: list[Envelope] = []
        self.stream_ended = asyncio.Event()
        self._changed = asyncio.Condition()
        self._reading: asyncio.Task | None = None
        self._at = 0

    async def call(self, method, path=None, *, body=None, **headers):
        """Any request; the response, read whole."""
        sent = {"authorization": f"Bearer {TOKEN}", "host": "supervisor"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        async with asyncio.timeout(60):
            lines = [(k.encode(), v.encode()) for k, v in sent.items() if v]
            return await ask(self.connections, method, path or self.path, lines, content)

    async def post(self, frame, *, agent="", expect=202):
        """POST a frame; its response. ``agent`` defaults to the client's."""
        name = self.agent if agent == "" else agent
        response = await self.call(
            "POST",
            self.path + (f"?agent={name}" if name else ""),
            body=frame,
            content_type="application/json",
            accept="application/json",
        )
        assert response.status == expect, response.content
        if expect == 202:
            assert response.content == b""
        return response

    async def request(self, request_id, method, params=None, **post):
        """A request and its answer from the stream."""
        await self.post({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}}, **post)
        return await self.answer(request_id)

    async def open_session(self, cwd) -> str:
        """Shake hands and open an ACP session; its id."""
        await self.request("init", "initialize", INITIALIZE)
        answer = await self.request("new", "session/new", {"cwd": str(cwd), "mcpServers": []})
        return answer["result"]["sessionId"]

    async def prompt(self, request_id, session_id, text):
        """Send a prompt without waiting for its end."""
        params = {"sessionId": session_id, "prompt": [{"type": "text", "text": text}]}
        await self.post({"jsonrpc": "2.0", "id": request_id, "method": "session/prompt", "params": params})

    def listen(self, last_event_id=None, query="", pause_s=0.0) -> None:
        """Begin to read the event stream in the background."""
        self._reading = asyncio.create_task(self._read(last_event_id, query, pause_s))

    async def _read(self, last_event_id, query, pause_s):
        headers = [(b"host", b"supervisor"), (b"authorization", f"Bearer {TOKEN}".encode())]
        headers.append((b"accept", b"text/event-stream"))
        if last_event_id is not None:
            headers.append((b"last-event-id", str(last_event_id).encode()))
        rest = b""
        try:
            async with self.connections.request("GET", self.path + query, headers, None, **IN_TIME) as response:
                assert response.status == 200, await response.aread()
                async for chunk in response.aiter_stream():
                    *blocks, rest = (rest + chunk).split(b"\n\n")
                    await self._take(blocks)
                    await asyncio.sleep(pause_s)
            self.stream_ended.set()
        except Broken:
            pass  # cut off by a killed supervisor

    async def _take(self, blocks):
        for block in blocks:
            if block.startswith(b":"):
                continue
            event, number, data = block.split(b"\n")
            assert event == b"event: message"
            self.seen.append(Envelope(int(number.removeprefix(b"id: ")), data.removeprefix(b"data: ")))
        async with self._changed:
            self._changed.notify_all()

    async def until(self, wanted, timeout_s=60):
        """The next envelope for which ``wanted`` holds."""
        async with asyncio.timeout(timeout_s), self._changed:
            while True:
                while self._at < len(self.seen):
                    self._at += 1
                    if wanted(self.seen[self._at - 1]):
                        return self.seen[self._at - 1]
                await self._changed.wait()

    async def answer(self, request_id, **until):
        return await self.until(lambda e: "method" not in e and e.get("id") == request_id, **until)

    async def said(self, method, **until):
        return await self.until(lambda e: e.get("method") == method, **until)

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        self.connections.close()


def text_of(envelopes) -> str:
    """The text of all message chunks."""
    updates = [e["params"]["update"] for e in envelopes if e.get("method") == "session/update"]
    return "".join(u["content"]["text"] for u in updates if u["sessionUpdate"] == "agent_message_chunk")
