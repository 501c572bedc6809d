"""What a sandbox of its own is: as its row and its backend tell, for people and for programs."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.model import Sandbox, Session
from agentctl.ops import reach, sandbox_up, services
from agentctl.ops.elsewhere import is_elsewhere, require_here
from agentctl.ops.own import as_session

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.providers.base import SandboxState

Json = dict[str, Any]
LOG_BYTES = 1024 * 1024


async def get(app: App, ref: str) -> Sandbox:
    """As it is now. Raise ``SandboxNotFound`` with the nearest names."""
    sandbox, _ = await seen(app, app.store.named_sandbox(ref))
    return sandbox


def labelled(app: App, labels: dict[str, str]) -> list[Sandbox]:
    """Those that have all the labels, as they were when somebody last looked."""
    return [s for s in app.store.sandboxes() if s.name is not None and labels.items() <= s.labels.items()]


async def seen(app: App, sandbox: Sandbox) -> tuple[Sandbox, SandboxState | None]:
    """The sandbox as its backend shows it; one that went by itself is told so."""
    if not sandbox.handle or is_elsewhere(app, as_session(sandbox)):
        return sandbox, None
    state = await app.provider(sandbox.provider).inspect(sandbox.handle)
    status = "stopped" if state.status == "missing" else state.status
    if not sandbox_up.is_up(sandbox) or status == sandbox.status:
        return services.notice(app, sandbox, state) if status == "running" else sandbox, state
    told = {
        "stopped": ("sandbox.stopped", {"reason": "gone", "detail": state.detail}),
        "paused": ("sandbox.paused", {"reason": "found"}),
        "running": ("sandbox.resumed", {"reason": "found"}),
    }
    return app.store.change_sandbox(sandbox, told[status], status=status), state


async def details(app: App, ref: str) -> Json:
    """The sandbox as JSON, with what its backend says (``backend``) and its supervisor, where it lives (``live``)."""
    sandbox, state = await seen(app, app.store.named_sandbox(ref))
    facts = dict(state.facts) if state else {}
    return {
        **to_json(sandbox),
        "boundary": facts.pop("boundary", app.provider(sandbox.provider).capabilities.boundary),
        "transport": facts.pop("transport", None),
        "sweep": facts.pop("sweep", None),
        "services": facts.pop("services", {}),
        "refused": facts.pop("refused", []),
        "backend": {"status": state.status, "detail": state.detail, "facts": facts} if state else None,
        "live": await _health(app, sandbox),
        "bound_sessions": [session.name for session in sessions_in(app, sandbox)],
        "last_sequence": last_sequence(app, sandbox),
    }


async def _health(app: App, sandbox: Sandbox) -> Json | None:
    if sandbox.status != "running" or is_elsewhere(app, as_session(sandbox)):
        return None
    with suppress(errors.SandboxNotFound, errors.SupervisorUnreachable):
        async with await reach.client_to(app.provider(sandbox.provider), sandbox.handle) as client:
            return await client.health()
    return None


def last_sequence(app: App, sandbox: Sandbox) -> int:
    """The number of its newest event: what comes later is what ``events --offset`` with it shows."""
    kept = app.store.sandbox_events(sandbox.id)
    return kept[-1][0] if kept else 0


def to_json(sandbox: Sandbox) -> Json:
    """As ``--json`` shows it: values of variables stay unsaid."""
    spec = sandbox.spec
    assert spec is not None, "a sandbox of its own has a spec"
    return {
        "id": sandbox.id,
        "name": sandbox.name,
        "status": sandbox.status,
        "completed": sandbox.status != "creating",
        "provider": sandbox.provider,
        "image": spec.image,
        "cwd": spec.cwd,
        "root": spec.root,
        "volume": spec.volume,
        "workspace": spec.workspace,
        "env": sorted(spec.env),
        "secrets": [{"name": secret["name"], "from": secret["from"]} for secret in spec.secrets],
        "labels": sandbox.labels,
        "origin": spec.origin,
        "idle_timeout_s": spec.idle_timeout_s,
        "ttl_s": sandbox.ttl_s,
        "expires_at": sandbox.expires_at,
        "error": sandbox.error,
        "place": sandbox.place or None,
        "created_at": sandbox.created_at,
        "updated_at": sandbox.updated_at,
    }


async def logs(app: App, ref: str, *, service: str | None = None, max_bytes: int = LOG_BYTES) -> bytes:
    """The end of what it printed itself, or what a service of it did. Raise ``SandboxNotFound`` when it is not up: the
    log goes with it."""
    sandbox = app.store.named_sandbox(ref)
    require_here(app, as_session(sandbox))
    if not sandbox.handle:
        raise errors.SandboxNotFound(
            f"The sandbox {sandbox.name} is {sandbox.status}, and has no log.",
            hint=f"What became of it: agentctl sandboxes events {sandbox.name}",
        )
    if service is not None:
        return await services.logs(app, sandbox, service, max_bytes=max_bytes)
    return await app.provider(sandbox.provider).logs(sandbox.handle, max_bytes=max_bytes)


def sessions_in(app: App, sandbox: Sandbox) -> list[Session]:
    """The sessions that were bound to it."""
    return [session for session in app.store.sessions(limit=None) if session.spec.sandbox == sandbox.id]
