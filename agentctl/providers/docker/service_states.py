"""What has become of the services of a sandbox, as the engine tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agentctl.providers.base import SandboxSpec
from agentctl.providers.docker import network
from agentctl.providers.docker.backend import ROLE, SANDBOX
from agentctl.providers.docker.service_health import failure

Json = dict[str, Any]
SERVICE = "agentctl.service"
"""Of a service's container: its name."""

SERVICES = "agentctl.services"
"""Of the sandbox's own container: ``{name: whether it is required}``, so that one that is gone is missed."""

READY_FILE = "services"
"""In the sandbox's directory on this host: the names of those that were ready when it came up."""

_DETAIL_CHARACTERS = 300


def labels_of_sandbox(spec: SandboxSpec) -> dict[str, str]:
    """What the sandbox's own container bears because of its services."""
    given = spec.compute.services
    return {SERVICES: json.dumps({service.name: service.required for service in given})} if given else {}


def service_name(sandbox_id: str, service: str) -> str:
    """The name of a service's container in the engine."""
    return f"{network.name_of(sandbox_id)}-{service}"


def states(api: Any, sandbox_id: str, labels: dict[str, str], run_dir: Path, *, running: bool) -> Json:
    """``facts["services"]`` (see ``ServingProvider``) of a sandbox whose own container bears ``labels``."""
    known: dict[str, bool] = json.loads(labels.get(SERVICES) or "{}")
    if not known:
        return {}
    ready = _ready_once(run_dir)
    found = {}
    for listed in api.containers(all=True, filters={"label": [f"{SANDBOX}={sandbox_id}", SERVICE]}):
        about = _inspected(api, listed["Id"])
        if about is not None:
            found[about["Config"]["Labels"][SERVICE]] = about
    missing = {"status": "missing", "detail": "there is no container of it", "image": None}
    return {
        name: {
            **(_state(found[name], was_ready=name in ready, running=running) if name in found else missing),
            "required": required,
        }
        for name, required in known.items()
    }


def _inspected(api: Any, container: str) -> Json | None:
    from docker import errors as sdk

    try:
        about: Json = api.inspect_container(container)
    except sdk.NotFound:
        return None
    return about


def _state(about: Json, *, was_ready: bool, running: bool) -> Json:
    state = about["State"]
    detail = failure(about) or ""
    if state["Paused"]:
        status, detail = "paused", ""
    elif detail:
        status = "failed" if running or state["Running"] else "stopped"
    else:
        checked = (state.get("Health") or {}).get("Status", "healthy") == "healthy"
        status = "ready" if checked or was_ready else "starting"
    return {"status": status, "detail": detail[:_DETAIL_CHARACTERS], "image": about["Config"]["Image"]}


def _ready_once(run_dir: Path) -> list[str]:
    """Those that were ready when the sandbox came up: the engine's own first check may be half a minute away."""
    try:
        names: list[str] = json.loads((run_dir / READY_FILE).read_text())
    except (OSError, ValueError):
        return []
    return names


def log_of(api: Any, container: str, lines: int) -> bytes:
    """The end of what a container printed, both its outputs in one."""
    said: bytes = api.logs(container, stdout=True, stderr=True, tail=lines)
    return said


def side_containers(api: Any, sandbox_id: str, status: str) -> list[str]:
    """Ids of what stands beside the sandbox's own container and has that status."""
    wanted = {"label": [f"{SANDBOX}={sandbox_id}", ROLE], "status": status}
    return [about["Id"] for about in api.containers(all=True, filters=wanted)]
