"""A session's sandbox: made under the session's lease, recorded at once, cleared away with everything in it.

The session's row names the sandbox before it is made. Whoever dies in between leaves a sandbox that no other row tells
of; the next command finds it by its labels and removes it before it makes another.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from agentctl import ids
from agentctl.model import Lease, Sandbox, Session, Volume
from agentctl.ops import mirror, provenance, volume_needed
from agentctl.ops.own import is_own
from agentctl.wire import Boot

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.ops.launch import Launch
    from agentctl.ops.services import Tell
    from agentctl.providers.base import Found, Provider, SandboxSpec, StartingProvider

Json = dict[str, Any]


async def create_sandbox(
    app: App, session: Session, lease: Lease, launch: Launch | None, request: Json | None, tell: Tell
) -> Json:
    """Make the session's sandbox, with the agent's session opening in it at once when ``request`` asks for it (but not
    before its services are ready), and store it. Returns its handle. On any error nothing of it is left. Raise
    ``LeaseLost``, and what the provider raises."""
    provider = app.provider(session.spec.provider)
    volume = await volume_needed.ensure(app, provider, session.spec)
    sandbox_id = app.prespawned_for(provider) or ids.new_id("sbx")
    starting = {"status": "starting"} if request else {}
    app.store.update_session(session.id, lease=lease, sandbox_id=sandbox_id, **starting)
    # 15 ms of imports, done when this task first waits: while the supervisor comes up.
    asyncio.get_running_loop().call_soon(import_module, "agentctl.supervisor_client")
    boot = _boot(app, session, sandbox_id, lease, launch, None if session.spec.compute.services else request)
    spec = _with_project(app, session, _sandbox_spec(session, volume, boot, labels_of(app, session), tell))
    handle = await _created(app, provider, spec, session.id)
    try:
        _record(app, session, sandbox_id, handle, lease)
    except BaseException:
        await provider.remove(handle, at_once=True)
        raise
    return handle


async def make(app: App, own: Session, lease: Lease, *, expires_at: float | None, tell: Tell) -> Json:
    """Make a sandbox of its own and return its handle; the caller stores it. On any error nothing of it is left."""
    provider = app.provider(own.spec.provider)
    volume = await volume_needed.ensure(app, provider, own.spec)
    boot = replace(_boot(app, own, own.id, lease, None, None), expires_at=expires_at)
    return await _created(app, provider, _sandbox_spec(own, volume, boot, labels_of(app, own), tell), own.id)


async def start_again(
    app: App, owner: Session, lease: Lease, launch: Launch | None, tell: Tell, *, expires_at: float | None = None
) -> Sandbox | None:
    """Its sandbox, with a supervisor in it again and what it had on its disk; None when there is none that could be
    started: what is left of it is the caller's to clear away. Raise what the provider raises."""
    from agentctl.errors import SandboxNotFound

    sandbox = app.store.sandbox(owner.sandbox_id) if owner.sandbox_id else None
    provider = app.provider(owner.spec.provider)
    if sandbox is None or not sandbox.handle or not provider.capabilities.starts_again:
        return None
    volume = await volume_needed.ensure(app, provider, owner.spec)
    boot = replace(_boot(app, owner, sandbox.id, lease, launch, None), expires_at=expires_at)
    spec = _with_project(app, owner, _sandbox_spec(owner, volume, boot, labels_of(app, owner), tell))
    try:
        await cast("StartingProvider", provider).start(sandbox.handle, replace(spec, progress=app.progress))
    except SandboxNotFound:
        return None
    finally:
        app.progress("", None, None)
    return sandbox


async def _created(app: App, provider: Provider, spec: SandboxSpec, owner_id: str) -> Json:
    try:
        return await provider.create(replace(spec, progress=app.progress))
    except BaseException:
        await volume_needed.take_back(app, spec.volume, owner_id)
        raise
    finally:
        app.progress("", None, None)


def _record(app: App, session: Session, sandbox_id: str, handle: Json, lease: Lease) -> None:
    app.store.put_sandbox(
        Sandbox(
            id=sandbox_id,
            session_id=session.id,
            provider=session.spec.provider,
            handle=handle,
            labels=labels_of(app, session),
            created_at=time.time(),
            fencing=lease.fencing,
        )
    )


def labels_of(app: App, session: Session) -> dict[str, str]:
    """What a sandbox of this session carries; the user's labels cannot take the place of ours."""
    return {**session.spec.labels, **_marks(app, session), **provenance.made_by()}


def _marks(app: App, session: Session) -> dict[str, str]:
    return {"origin": session.spec.origin or app.origin, "sandbox" if is_own(session) else "session": session.id}


def _boot(
    app: App, session: Session, sandbox_id: str, lease: Lease, launch: Launch | None, request: Json | None
) -> Boot:
    from agentctl.ops.launch import known_values

    return Boot(
        sandbox_id=sandbox_id,
        token=ids.new_token(),
        listen={},
        log_root="",
        home="",
        tmp="",
        agent_env=launch.env if launch else {},
        recipes={session.spec.agent: launch.recipe} if launch else {},
        secrets=launch.secrets if launch else known_values(app, session.spec, session),
        idle_timeout_s=session.spec.idle_timeout_s,
        fencing=lease.fencing,
        session={"id": session.id, "request": request} if request else None,
        root=session.spec.root,
    )


def _sandbox_spec(session: Session, volume: Volume, boot: Boot, labels: dict[str, str], tell: Tell) -> SandboxSpec:
    from agentctl.providers.base import SandboxSpec

    workspace = session.spec.workspace
    return SandboxSpec(
        sandbox_id=boot.sandbox_id,
        session_id=None if is_own(session) else session.id,
        volume=volume,
        home=f"workspaces/{workspace}" if workspace else f"agents/{session.id}/home",
        log=mirror.log_path(session.id),
        boot=boot,
        labels=labels,
        image=session.spec.image,
        compute=session.spec.compute,
        start_timeout_s=session.spec.start_timeout_s,
        tell=tell,
    )


def _with_project(app: App, session: Session, spec: SandboxSpec) -> SandboxSpec:
    if session.spec.project is None:
        return spec
    from agentctl.ops import projects

    compute, parts = projects.machine(app, session)
    return replace(spec, compute=compute, parts=parts)


async def clear_away(app: App, session: Session, *, at_once: bool = False) -> None:
    """Remove the session's sandbox, living or dead, recorded or not, and its row; not one that it only lives in."""
    if session.sandbox_id is None or session.spec.sandbox is not None:
        return
    sandbox = app.store.sandbox(session.sandbox_id)
    if sandbox is None:
        for found in await unrecorded(app, session):
            await app.provider(session.spec.provider).remove(found.handle, at_once=at_once)
        return
    await app.provider(sandbox.provider).remove(sandbox.handle, at_once=at_once)
    app.store.delete_sandbox(sandbox.id)


async def unrecorded(app: App, session: Session) -> list[Found]:
    """The session's sandboxes as the backend knows them: for a session whose row names one that is not stored."""
    provider = app.provider(session.spec.provider)
    found = [found async for found in provider.find_by_labels(_marks(app, session))]
    if session.sandbox_id not in [sandbox.sandbox_id for sandbox in found]:
        # Its maker may have died before it bore its labels; it has its id from the first moment.
        found += [one async for one in provider.find_by_labels({}) if one.sandbox_id == session.sandbox_id]
    return found


async def forget_sandbox(app: App, session: Session, handle: Json) -> None:
    """Remove a sandbox whose session could not be opened, and say so in the session's row."""
    await app.provider(session.spec.provider).remove(handle)
    now = app.store.session(session.id)
    if now.sandbox_id is not None:
        app.store.delete_sandbox(now.sandbox_id)
    await mirror.from_volume(app, app.store.update_session(session.id, sandbox_id=None, status="hibernated"))
