"""From a sandbox of its own to its living supervisor: found when it lives, brought up when it does not, never twice."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from agentctl import errors
from agentctl.model import Lease, Sandbox
from agentctl.ops import provision, reach, services
from agentctl.ops.elsewhere import require_here
from agentctl.ops.own import as_session
from agentctl.ops.report import Report

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.providers.base import StartingProvider
    from agentctl.supervisor_client import SupervisorClient

Json = dict[str, Any]


@asynccontextmanager
async def up(app: App, sandbox: Sandbox, report: Report) -> AsyncIterator[SupervisorClient]:
    """A client to its supervisor, brought up when it is not. Raise as ``connected``."""
    async with await connected(app, sandbox, report) as client:
        yield client


async def connected(app: App, sandbox: Sandbox, report: Report) -> SupervisorClient:
    """The same for a caller who closes it. Raise ``SandboxNotFound`` after its time to live, ``Conflict`` while it is
    paused, and what making a sandbox raises."""
    require_usable(app, sandbox)
    if (client := await _living(app, sandbox, reach.ASK_S)) is not None:
        return client
    async with reach.lease_of(app, sandbox.id) as lease:
        sandbox = app.store.named_sandbox(sandbox.id)
        require_usable(app, sandbox)
        if (client := await _living(app, sandbox, reach.ASK_AGAIN_S)) is not None:
            return client
        sandbox = await start(app, sandbox, lease, report, "sandbox.started")
        return await reach.client_to_new(app.provider(sandbox.provider), sandbox.handle)


def require_usable(app: App, sandbox: Sandbox) -> None:
    require_here(app, as_session(sandbox))
    if is_expired(sandbox):
        raise errors.SandboxNotFound(
            f"The sandbox {sandbox.name} is gone: its time to live is over.",
            hint="Make another: agentctl sandboxes create",
        )


def is_expired(sandbox: Sandbox) -> bool:
    return sandbox.expires_at is not None and time.time() >= sandbox.expires_at


async def _living(app: App, sandbox: Sandbox, timeout_s: float) -> SupervisorClient | None:
    """A client to its supervisor when that one answers and is not about to leave."""
    if not sandbox.handle:
        return None
    provider = app.provider(sandbox.provider)
    state = await provider.inspect(sandbox.handle)
    if state.status == "paused":
        raise errors.Conflict(
            f"The sandbox {sandbox.name} is paused.", hint=f"Go on with: agentctl sandboxes resume {sandbox.name}"
        )
    if state.status != "running":
        return None
    try:
        client = await reach.client_to(provider, sandbox.handle)
    except errors.SandboxNotFound:
        return None
    return await reach.answering(client, timeout_s)


async def start(app: App, sandbox: Sandbox, lease: Lease, report: Report, event: str) -> Sandbox:
    """Start it again under its lease, or make it anew with nothing left of an earlier one, and tell ``event``. On any
    error nothing new of it is left but the row, which says so."""
    sandbox = await _told_stopped(app, sandbox, lease)
    report("Starting the sandbox …")
    provider = app.provider(sandbox.provider)
    began = time.monotonic()
    own, tell = as_session(sandbox), services.events(app, sandbox, lease, report)
    try:
        again = await provision.start_again(app, own, lease, None, tell, expires_at=sandbox.expires_at)
        if again is not None:
            handle = again.handle
        else:
            sandbox = await _cleared(app, sandbox, lease)
            handle = await provision.make(app, own, lease, expires_at=sandbox.expires_at, tell=tell)
    except BaseException as e:
        _tell_failure(app, sandbox, lease, e)
        raise
    took = {"duration_ms": round((time.monotonic() - began) * 1000)}
    changes: Json = {"status": "running", "handle": handle, "fencing": lease.fencing, "error": None}
    try:
        return app.store.change_sandbox(sandbox, (event, took), lease=lease, **changes)
    except BaseException:
        if again is None:
            await provider.remove(handle, at_once=True)
        raise


async def _told_stopped(app: App, sandbox: Sandbox, lease: Lease) -> Sandbox:
    """The row of a sandbox in which nothing answers; of one that should be up it is told that it went by itself."""
    if not is_up(sandbox):
        return sandbox
    event = ("sandbox.stopped", {"reason": "gone", "detail": await _detail(app, sandbox)})
    return app.store.change_sandbox(sandbox, event, lease=lease, status="stopped", fencing=lease.fencing)


async def _cleared(app: App, sandbox: Sandbox, lease: Lease) -> Sandbox:
    """The row of a sandbox of which there is nothing any more. Who has its first lease need not search: nobody can have
    made anything of it."""
    if lease.fencing > 1:
        await clear_away(app, sandbox)
    return app.store.change_sandbox(sandbox, lease=lease, handle={}, fencing=lease.fencing)


def is_up(sandbox: Sandbox) -> bool:
    """As far as the row tells."""
    return sandbox.status in ("running", "paused")


async def _detail(app: App, sandbox: Sandbox) -> str:
    return (await app.provider(sandbox.provider).inspect(sandbox.handle)).detail if sandbox.handle else ""


def _tell_failure(app: App, sandbox: Sandbox, lease: Lease, e: BaseException) -> None:
    error = (
        e if isinstance(e, errors.AgentctlError) else errors.SandboxError(f"Its start was cut off: {type(e).__name__}.")
    )
    said = error.to_json()
    with suppress(errors.AgentctlError):  # what is raised tells more than that it could not be written
        app.store.change_sandbox(sandbox, ("sandbox.failed", {"error": said}), lease=lease, status="failed", error=said)


async def clear_away(app: App, sandbox: Sandbox) -> None:
    """Remove what there is of it, recorded or not: whoever made it may have died before it was written down."""
    provider = app.provider(sandbox.provider)
    if sandbox.handle:
        await provider.remove(sandbox.handle)
        return
    for found in await provision.unrecorded(app, as_session(sandbox)):
        await provider.remove(found.handle)


async def put_down(app: App, sandbox: Sandbox, *, archive: bool = False) -> Json:
    """End all that runs in it, and return the handle of what can be started again; ``{}`` where there is nothing."""
    provider = app.provider(sandbox.provider)
    if sandbox.handle and provider.capabilities.starts_again:
        await cast("StartingProvider", provider).stop(sandbox.handle, archive=archive)
        return sandbox.handle
    await clear_away(app, sandbox)
    return {}


async def ask_to_leave(app: App, sandbox: Sandbox) -> None:
    """Have its supervisor leave in good order, where there is one, and wait for that a while."""
    provider = app.provider(sandbox.provider)
    if not sandbox.handle or (await provider.inspect(sandbox.handle)).status != "running":
        return
    with suppress(errors.SupervisorUnreachable, errors.SandboxNotFound):  # it is leaving already
        async with await reach.client_to(provider, sandbox.handle) as client:
            await client.shutdown()
    await reach.until_gone(provider, sandbox.handle)
