"""``/v1/config/mcp`` and ``/v1/config/skills``: GET, PUT and DELETE of one named entry of a directory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from agentctl import errors
from agentctl.supervisor import http
from agentctl.supervisor.config_store import ConfigStore, Kind
from agentctl.supervisor.configured import config_file
from agentctl.supervisor.supervisor import Supervisor


def routes(supervisor: Supervisor) -> list[BaseRoute]:
    """Both, below ``/v1/config``."""
    store = ConfigStore(config_file(supervisor.boot))
    methods = ["GET", "PUT", "DELETE"]
    return [
        Route("/mcp", _entry(store, "mcp", "mcpName"), methods=methods),
        Route("/skills", _entry(store, "skills", "skillName"), methods=methods),
    ]


def _entry(store: ConfigStore, kind: Kind, parameter: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        directory, name = _required(request, "directory"), _required(request, parameter)
        if request.method == "PUT":
            store.put(kind, directory, name, await http.json_body(request))
        elif request.method == "DELETE":
            store.delete(kind, directory, name)
        else:
            return JSONResponse(store.get(kind, directory, name))
        return Response(status_code=204)

    return answer


def _required(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if not value:
        raise errors.UsageError(f"The query needs {name}.")
    return value
