"""The raw ACP routes ``/v1/acp`` and ``/v1/acp/{server_id}``, in the shape of sandbox-agent 0.4.

Every accepted POST is answered by 202 without a body, and everything that an agent says is on the event stream, in its
order. So a turn may take as long as it likes, and what goes wrong with an agent reaches its client as a JSON-RPC error
and not as an HTTP status, which would end the client. Source: notes on the peer's transport; ACP itself is opaque here.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from agentctl import errors
from agentctl.supervisor import http
from agentctl.supervisor.log.pages import Record
from agentctl.supervisor.raw.server import RawServer
from agentctl.supervisor.supervisor import Supervisor

Json = dict[str, Any]


def routes(supervisor: Supervisor) -> list[BaseRoute]:
    """``GET /v1/acp``; POST, GET and DELETE of one server."""
    raw = RawRoutes(supervisor)
    return [
        Route("/v1/acp", raw.list),
        Route("/v1/acp/{server_id}", raw.post, methods=["POST"]),
        Route("/v1/acp/{server_id}", raw.stream, methods=["GET"]),
        Route("/v1/acp/{server_id}", raw.delete, methods=["DELETE"]),
    ]


class RawRoutes:
    """One method per route."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._servers = supervisor.raw_servers

    async def list(self, request: Request) -> Response:
        return JSONResponse({"servers": self._servers.listing()})

    async def post(self, request: Request) -> Response:
        """One envelope to the agent. 400 for what is none, 406, 409, 415; 507 when the log cannot be written."""
        http.require_accept(request, "application/json")
        frame = await http.json_body(request, require_type=True)
        _check_envelope(frame)
        self._supervisor.touch()
        query = request.query_params
        server = await self._servers.open(request.path_params["server_id"], query.get("agent"), query.get("cwd"))
        await server.deliver(frame)
        return Response(status_code=202)

    async def stream(self, request: Request) -> Response:
        """Every envelope after ``Last-Event-ID`` or ``offset``, then each new one. 400, 404, 406."""
        http.require_accept(request, "text/event-stream")
        offset = http.start_offset(request)
        server = await self._servers.awaited(request.path_params["server_id"])
        _check_offset(offset, server)
        return http.event_stream(http.with_heartbeats(server.follow(offset or None), _messages))

    async def delete(self, request: Request) -> Response:
        await self._servers.delete(request.path_params["server_id"])
        return Response(status_code=204)


def _messages(page: list[Record]) -> bytes:
    return http.sse_chunk(page, False, b"event: message\n")


def _check_envelope(frame: Json) -> None:
    if "method" in frame:
        if not isinstance(frame["method"], str):
            raise errors.UsageError("The method of a JSON-RPC message is text.")
    elif "id" not in frame:
        raise errors.UsageError("A JSON-RPC message has a method, or the id that it answers.")


def _check_offset(offset: int, server: RawServer) -> None:
    """A number that was never given cannot be resumed from: waiting for it would skip what comes before it."""
    if offset > server.last_sequence:
        raise errors.UsageError(
            f"Event {offset} of server {server.id} was never sent: its last one is {server.last_sequence}."
        )
