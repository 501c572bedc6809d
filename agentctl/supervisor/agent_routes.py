"""``/v1/agents``: the agents that this sandbox can start, in the shapes of sandbox-agent 0.4.

A recipe comes into a sandbox with its agent installed, so there is nothing to install here; asking for it says so.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from agentctl.supervisor.raw.servers import recipe_of
from agentctl.supervisor.supervisor import Supervisor
from agentctl.wire import Recipe

Json = dict[str, Any]
_ALWAYS = (
    "commandExecution",
    "errorEvents",
    "fileChanges",
    "itemStarted",
    "mcpTools",
    "permissions",
    "questions",
    "reasoning",
    "sessionLifecycle",
    "status",
    "streamingDeltas",
    "textMessages",
    "toolCalls",
    "toolResults",
)
"""What the supervisor's own events give for every agent that speaks ACP."""


def routes(supervisor: Supervisor) -> list[BaseRoute]:
    """The routes below ``/v1/agents``."""

    async def listing(request: Request) -> Response:
        recipes = sorted(supervisor.boot.recipes.items())
        return JSONResponse({"agents": [_info(supervisor, name, recipe) for name, recipe in recipes]})

    async def one(request: Request) -> Response:
        name = request.path_params["agent"]
        return JSONResponse(_info(supervisor, name, recipe_of(supervisor.boot, name)))

    async def install(request: Request) -> Response:
        recipe_of(supervisor.boot, request.path_params["agent"])
        return JSONResponse({"already_installed": True, "artifacts": []})

    return [
        Route("/", listing),
        Route("/{agent}", one),
        Route("/{agent}/install", install, methods=["POST"]),
    ]


def _info(supervisor: Supervisor, name: str, recipe: Recipe) -> Json:
    able = _said_capabilities(supervisor, name)
    prompt = able.get("promptCapabilities") or {}
    env = supervisor.boot.agent_env
    return {
        "id": name,
        "installed": True,
        "credentialsAvailable": not recipe.credentials or any(env.get(variable) for variable in recipe.credentials),
        "path": recipe.argv[0],
        "capabilities": {
            **dict.fromkeys(_ALWAYS, True),
            "images": bool(prompt.get("image")),
            "fileAttachments": bool(prompt.get("embeddedContext")),
            "planMode": "plan" in {mode for setup in recipe.permissions.values() for mode in (setup.mode, *setup.also)},
            "sharedProcess": False,
        },
    }


def _said_capabilities(supervisor: Supervisor, name: str) -> Json:
    """What a running agent of that name answered to ``initialize``."""
    for session in supervisor.sessions.values():
        if session.recipe.name == name and session.agent is not None:
            said: Json = session.agent.client.capabilities
            return said
    return {}
