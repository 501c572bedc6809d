"""Secrets in what the routes answer: errors with an agent's words in them, snapshots, results of raw calls."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentctl.supervisor.log.records import redacted
from agentctl.supervisor.supervisor import Supervisor

_JSON = ("application/json", "application/problem+json")


class RedactedAnswers:
    """Cuts secrets out of JSON answers that come in one piece; files and streams go by untouched, the latter were
    redacted when they were written."""

    def __init__(self, app: ASGIApp, supervisor: Supervisor) -> None:
        self._app = app
        self._supervisor = supervisor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._supervisor.redact is None:
            await self._app(scope, receive, send)
            return
        redact = self._supervisor.redact
        held: Message | None = None

        async def look(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_json(message):
                held = message
                return
            if held is not None:
                start, held = held, None
                body = message.get("body", b"")
                if not message.get("more_body") and redact(body) != body:
                    message = {**message, "body": redacted(body, redact)}
                    MutableHeaders(raw=start["headers"])["content-length"] = str(len(message["body"]))
                await send(start)
            await send(message)

        await self._app(scope, receive, look)


def _is_json(start: Message) -> bool:
    types = [value for name, value in start["headers"] if name.lower() == b"content-type"]
    return bool(types) and types[0].decode("latin-1").split(";")[0].strip() in _JSON
