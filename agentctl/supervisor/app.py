"""The supervisor's HTTP application: the session API (shape of sandbox-agent v0.1.12) and the raw ACP routes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from agentctl import errors
from agentctl.supervisor import http
from agentctl.supervisor.lazy_routes import lazy_mount
from agentctl.supervisor.log.pages import Record
from agentctl.supervisor.log.session_log import SessionLog
from agentctl.supervisor.raw import routes as raw_routes
from agentctl.supervisor.redacted_answers import RedactedAnswers
from agentctl.supervisor.session import Session
from agentctl.supervisor.supervisor import Supervisor
from agentctl.supervisor.turn import Message

Json = dict[str, Any]
PAGE_LIMIT = 1000


def build_app(supervisor: Supervisor, token: str) -> ASGIApp:
    """All routes behind the token gate."""
    routes = SessionRoutes(supervisor)
    app = Starlette(
        routes=[
            Route("/v1/health", routes.health),
            Route("/v1/shutdown", routes.shutdown, methods=["POST"]),
            Route("/v1/sessions", routes.list),
            *(
                Route(f"/v1/sessions/{{id}}{path}", handler, methods=[method])
                for method, path, handler in routes.table()
            ),
            *raw_routes.routes(supervisor),
            lazy_mount("/v1/fs", "files.routes", supervisor),
            lazy_mount("/v1/git", "git.routes", supervisor),
            lazy_mount("/v1/processes", "exec.routes", supervisor),
            lazy_mount("/v1/agents", "agent_routes", supervisor),
            lazy_mount("/v1/config", "config_routes", supervisor),
        ],
        exception_handlers={
            errors.AgentctlError: http.on_agentctl_error,
            HTTPException: http.on_http_exception,
            Exception: http.on_unexpected_error,
        },
    )
    answering: ASGIApp = RedactedAnswers(app, supervisor)
    if supervisor.keeper is not None:
        from agentctl.supervisor.keep.gate import HomeGate

        answering = HomeGate(answering, supervisor.keeper)
    return http.TokenGate(answering, token)


class SessionRoutes:
    """One method per route of ``wire.py``; each parses, calls the session, answers."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def table(self) -> list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]:
        return [
            ("POST", "", self.create),
            ("GET", "", self.get),
            ("POST", "/messages", self.send),
            ("POST", "/messages/stream", self.send_and_stream),
            ("GET", "/events", self.events),
            ("GET", "/events/sse", self.stream),
            ("POST", "/cancel", self.cancel),
            ("POST", "/permissions/{request}/reply", self.reply_permission),
            ("POST", "/questions/{request}/reply", self.reply_question),
            ("POST", "/questions/{request}/reject", self.reject_question),
            ("POST", "/config", self.configure),
            ("POST", "/call", self.call),
            ("POST", "/terminate", self.terminate),
            ("POST", "/release", self.release),
        ]

    def _session(self, request: Request) -> Session:
        return self._supervisor.session(request.path_params["id"])

    async def health(self, request: Request) -> Response:
        return http.answer(self._supervisor.health())

    async def shutdown(self, request: Request) -> Response:
        self._supervisor.leave("released")
        return Response(status_code=202)

    async def list(self, request: Request) -> Response:
        return http.answer({"sessions": [s.snapshot() for s in self._supervisor.sessions.values()]})

    async def create(self, request: Request) -> Response:
        body = await http.json_body(request)
        session = await self._supervisor.create_session(request.path_params["id"], body)
        return http.answer(session.snapshot())

    async def get(self, request: Request) -> Response:
        return http.answer(self._session(request).snapshot())

    async def send(self, request: Request) -> Response:
        session = self._session(request)
        message = Message.from_json(await http.json_body(request))
        return http.answer(session.turns.submit(message), status_code=202)

    async def send_and_stream(self, request: Request) -> Response:
        session = self._session(request)
        message = Message.from_json(await http.json_body(request))
        session.turns.submit(message)
        raw = http.query_flag(request, "includeRaw", "include_raw")
        before = session.turns.first_sequence(message.turn_id) - 1
        pages = _turn_pages(session.log, before, message.turn_id, raw)
        return http.event_stream(http.with_heartbeats(pages, lambda page: http.sse_chunk(page, raw)))

    async def events(self, request: Request) -> Response:
        session = self._session(request)
        offset = http.query_int(request, "offset", 0) or 0
        limit = min(http.query_int(request, "limit", PAGE_LIMIT) or PAGE_LIMIT, PAGE_LIMIT)
        raw = http.query_flag(request, "includeRaw", "include_raw")
        page = _read(session, offset, limit=limit, raw=raw)
        more = bool(page) and page[-1].sequence < session.log.last_sequence
        lines = b",".join(http.event_bytes(r, raw) for r in page)
        body = b'{"events":[' + lines + b'],"hasMore":' + (b"true" if more else b"false") + b"}"
        return Response(body, media_type="application/json")

    async def stream(self, request: Request) -> Response:
        session = self._session(request)
        raw = http.query_flag(request, "includeRaw", "include_raw")
        offset = http.start_offset(request)
        _read(session, offset, limit=1)  # an expired offset is an answer of its own, not a broken stream
        pages = session.log.follow(offset, raw=raw)
        return http.event_stream(http.with_heartbeats(pages, lambda page: http.sse_chunk(page, raw)))

    async def cancel(self, request: Request) -> Response:
        body = await http.json_body(request)
        turn_id = body.get("turnId")
        if turn_id is not None and not isinstance(turn_id, str):
            raise errors.UsageError("turnId must be a text.")
        cancelled = self._session(request).turns.cancel(kill=bool(body.get("kill")), turn_id=turn_id)
        return http.answer(cancelled, status_code=202)

    async def reply_permission(self, request: Request) -> Response:
        body = await http.json_body(request)
        desk = self._session(request).desk
        desk.reply_permission(request.path_params["request"], body.get("reply"), body.get("optionId"))
        return Response(status_code=204)

    async def reply_question(self, request: Request) -> Response:
        body = await http.json_body(request)
        content = body.get("content")
        if content is None and isinstance(body.get("answers"), list):
            content = {"answers": body["answers"]}
        if not isinstance(content, dict):
            raise errors.UsageError('An answer is {"content": {…}} or {"answers": [[…]]}.')
        self._session(request).desk.reply_question(request.path_params["request"], content)
        return Response(status_code=204)

    async def reject_question(self, request: Request) -> Response:
        self._session(request).desk.reply_question(request.path_params["request"], None)
        return Response(status_code=204)

    async def configure(self, request: Request) -> Response:
        session = self._session(request)
        await session.configure(await http.json_body(request))
        return http.answer(session.snapshot())

    async def call(self, request: Request) -> Response:
        body = await http.json_body(request)
        method, params = body.get("method"), body.get("params") or {}
        if not isinstance(method, str) or not isinstance(params, dict):
            raise errors.UsageError('A call is {"method": text, "params": {…}}.')
        timeout_s = body.get("timeoutS") or 60
        if not isinstance(timeout_s, int | float) or timeout_s <= 0:
            raise errors.UsageError("timeoutS must be a number of seconds above 0.")
        result = await self._session(request).call(method, params, float(timeout_s))
        return http.answer({"result": result})

    async def terminate(self, request: Request) -> Response:
        await self._supervisor.terminate_session(request.path_params["id"])
        return Response(status_code=204)

    async def release(self, request: Request) -> Response:
        await self._supervisor.release_session(request.path_params["id"])
        return Response(status_code=204)


def _read(session: Session, offset: int, *, limit: int, raw: bool = False) -> list[Record]:
    """A page of the log; the session hears of it when there is none any more."""
    try:
        return session.log.read(offset, limit=limit, raw=raw)
    except errors.StateError as e:
        session.unreadable(e)
        raise


async def _turn_pages(log: SessionLog, after: int, turn_id: str, raw: bool) -> AsyncIterator[list[Record]]:
    """The events from this turn's first one to its ``turn.ended``, and not one more: while it is queued, what happens
    is other turns' business."""
    begun = False
    async for page in log.follow(after, raw=raw):
        first, end = 0 if begun else len(page), None
        for index, record in enumerate(page):
            step = _step(record, turn_id)
            if step == "turn.started":
                begun, first = True, min(first, index)
            elif step == "turn.ended":
                first, end = min(first, index), index + 1
                break
        if page := page[first:end]:
            yield page
        if end is not None:
            return


def _step(record: Record, turn_id: str) -> str | None:
    """The event's type when it is one about this turn as such."""
    if b'"type":"turn.' not in record.line:
        return None
    event = json.loads(record.line)
    return event["type"] if event["data"].get("turn_id") == turn_id else None
