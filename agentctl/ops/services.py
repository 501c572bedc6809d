"""What becomes of the containers beside a sandbox: as story lines, and as events of a sandbox of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from agentctl.errors import NotFound
from agentctl.model import Lease, Sandbox
from agentctl.ops.report import Report

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.providers.base import SandboxState, ServingProvider

Json = dict[str, Any]
Tell = Callable[[str, Json], None]
READY, FAILED = "service.ready", "service.failed"
_EVENTS = {"ready": READY, "failed": FAILED, "missing": FAILED}


def story(report: Report, log: str = "") -> Tell:
    """Tells a person who waits. ``log`` is the command that shows the log of a service, but for its name."""

    def tell(kind: str, data: Json) -> None:
        name = data["service"]
        if kind == READY:
            report(f"The service {name} is ready.")
        else:
            where = f" Its log: {log}{name}" if log else ""
            report(f"The service {name} failed: {data['reason']}.{where}")

    return tell


def events(app: App, sandbox: Sandbox, lease: Lease, report: Report) -> Tell:
    """The same for a sandbox of its own that is being made: told as its events, too."""
    aloud = story(report, f"agentctl sandboxes logs {sandbox.name} --service ")

    def tell(kind: str, data: Json) -> None:
        app.store.change_sandbox(sandbox, (kind, data), lease=lease)
        aloud(kind, data)

    return tell


def notice(app: App, sandbox: Sandbox, state: SandboxState) -> Sandbox:
    """Tell as events what became of services since somebody last looked at a running sandbox."""
    services = state.facts.get("services") or {}
    told = _told(app, sandbox) if services else {}
    for name, now in services.items():
        kind = _EVENTS.get(now["status"])
        if kind is not None and told.get(name) != kind:
            why = {"required": now["required"], "reason": now["detail"]} if kind == FAILED else {}
            sandbox = app.store.change_sandbox(sandbox, (kind, {"service": name, **why}))
    return sandbox


def _told(app: App, sandbox: Sandbox) -> dict[str, str]:
    """What the last event about each service was."""
    kept = [json.loads(line) for _, line in app.store.sandbox_events(sandbox.id)]
    return {event["data"]["service"]: event["type"] for event in kept if event["type"] in (READY, FAILED)}


async def logs(app: App, sandbox: Sandbox, name: str, *, max_bytes: int) -> bytes:
    """The end of what a service of a sandbox that is up printed. Raise ``NotFound``."""
    assert sandbox.spec is not None, "a sandbox of its own has a spec"
    there = [service.name for service in sandbox.spec.compute.services]
    if name not in there:
        hint = f"It has: {', '.join(there)}." if there else "It has none."
        raise NotFound(f"The sandbox {sandbox.name} has no service {name!r}.", hint=hint)
    serving = cast("ServingProvider", app.provider(sandbox.provider))
    return await serving.service_logs(sandbox.handle, name, max_bytes=max_bytes)
