"""From a session to its living supervisor: found when it lives, brought up when it does not, never twice.

A sandbox is made under the session's lease. Its handle is stored before anything is asked of it, so that whatever dies
afterwards, the next command finds what is there instead of making another.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import errors, ids
from agentctl.model import Lease, Sandbox, Session, SessionSpec, Volume
from agentctl.ops import mirror
from agentctl.ops.report import Report
from agentctl.wire import Boot, Recipe

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.providers.base import Provider
    from agentctl.supervisor_client import SupervisorClient

Json = dict[str, Any]
LEASE_S = 300.0
"""Longer than any bring-up: a lease that ran out under a living holder would let a second one in."""

LEASE_WAIT_S = 60.0
START_TIMEOUT_S = 180.0
SNAPSHOT_TIMEOUT_S = 15.0
"""A supervisor answers at once; one that is asked twice and says nothing for so long is taken for dead."""

IDLE_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A living session: its row, a client to its supervisor, and the supervisor's snapshot of it."""

    session: Session
    client: SupervisorClient
    snapshot: Json


@asynccontextmanager
async def living(app: App, session: Session, report: Report, *, on_lost: str | None = None) -> AsyncIterator[Link]:
    """The session with its supervisor and agent up, made so when they are not. Raise what bringing it up raises."""
    link = await _link_to_live(app, session)
    if link is not None and link.snapshot["status"] == "starting":
        await link.client.aclose()  # whoever starts it holds the lease; when that one fails it is ours to do
        link = None
    link = link or await _bring_up(app, session, report, on_lost)
    async with link.client:
        try:
            yield link
        except errors.SessionNotFound as e:
            app.store.session(session.id)  # raises when it was deleted
            raise errors.SandboxError(
                f"Session {session.name} was put to sleep by another command at the same time.",
                hint="Do it again: that brings the session back.",
            ) from e


async def _link_to_live(app: App, session: Session) -> Link | None:
    """A link when the session lives now, else None; what is found dead, or has failed for good, is cleared away by
    ``_bring_up``."""
    client = await live_client(app, session)
    if client is None:
        return None
    try:
        snapshot = await client.snapshot(session.id, timeout_s=SNAPSHOT_TIMEOUT_S)
        if snapshot["status"] != "failed":
            return Link(session=session, client=client, snapshot=snapshot)
        await client.aclose()
        return None
    except (errors.SupervisorUnreachable, errors.SessionNotFound):
        await client.aclose()
        return None
    except BaseException:
        await client.aclose()
        raise


async def is_running(app: App, session: Session) -> bool:
    """Whether the backend says that the session's sandbox runs, reachable or not."""
    sandbox = app.store.sandbox(session.sandbox_id) if session.sandbox_id else None
    if sandbox is None:
        return False
    return (await app.provider(sandbox.provider).inspect(sandbox.handle)).status == "running"


async def live_client(app: App, session: Session) -> SupervisorClient | None:
    """A client to the session's running sandbox; None when it has none. Asks the backend, never the store alone."""
    sandbox = app.store.sandbox(session.sandbox_id) if session.sandbox_id else None
    if sandbox is None:
        return None
    if not await is_running(app, session):
        return None
    try:
        return await _client(app.provider(sandbox.provider), sandbox.handle)
    except errors.SandboxNotFound:
        return None  # its process lives, but what it is reached by was deleted


async def _client(provider: Provider, handle: Json) -> SupervisorClient:
    from agentctl.supervisor_client import SupervisorClient

    endpoint, token = await provider.endpoint(handle)
    return SupervisorClient(endpoint, token)


async def _bring_up(app: App, session: Session, report: Report, on_lost: str | None) -> Link:
    """Under the session's lease: whoever was faster has done it already."""
    async with lease_of(app, session.id) as lease:
        session = app.store.session(session.id)
        if (link := await _link_to_live(app, session)) is not None:
            return link
        if session.status != "new":
            session = mirror.from_volume(app, session)
        await clear_away(app, session)
        client, snapshot = await _create(app, session, report, on_lost, lease.fencing)
        return Link(session=app.store.session(session.id), client=client, snapshot=snapshot)


@asynccontextmanager
async def lease_of(app: App, session_id: str) -> AsyncIterator[Lease]:
    """Hold the session's lease, after waiting for another command of this or another process to let go of it.

    Raise ``SessionBusy`` naming the holder when it does not within ``LEASE_WAIT_S``.
    """
    from agentctl.store.leases import this_holder

    async with app.lock(session_id):
        lease = await _acquired(app, session_id, this_holder())
        try:
            yield lease
        finally:
            app.store.release_lease(lease)


async def _acquired(app: App, session_id: str, holder: str) -> Lease:
    deadline = time.monotonic() + LEASE_WAIT_S
    while True:
        try:
            return app.store.acquire_lease(session_id, holder=holder, ttl_s=LEASE_S)
        except errors.SessionBusy:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(0.05)


async def clear_away(app: App, session: Session, *, at_once: bool = False) -> None:
    """Remove the session's sandbox, living or dead, and its row."""
    sandbox = app.store.sandbox(session.sandbox_id) if session.sandbox_id else None
    if sandbox is None:
        return
    await app.provider(sandbox.provider).remove(sandbox.handle, at_once=at_once)
    app.store.delete_sandbox(sandbox.id)


async def _create(
    app: App, session: Session, report: Report, on_lost: str | None, fencing: int
) -> tuple[SupervisorClient, Json]:
    from agentctl.providers.base import SandboxSpec

    spec = session.spec
    provider = app.provider(spec.provider)
    recipe, credentials = launch_of(app, spec)
    body = _session_request(app, session, recipe, on_lost)
    volume = await _volume(app, provider, spec.volume)
    sandbox_id = app.prespawned_for(provider) or ids.new_id("sbx")
    labels = {"origin": app.origin, "session": session.id, **spec.labels}
    report(f"Starting {recipe.name} …")
    boot = Boot(
        sandbox_id=sandbox_id,
        token=secrets.token_urlsafe(32),
        listen={},
        log_root="",
        home="",
        tmp="",
        agent_env=credentials.env,
        recipes={spec.agent: replace(recipe, files={**recipe.files, **credentials.files})},
        secrets=(*credentials.secrets, *_file_values(spec)),
        idle_timeout_s=IDLE_TIMEOUT_S,
        fencing=fencing,
        session={"id": session.id, "request": body},
    )
    # 15 ms of imports, done when this task first waits: while the supervisor comes up.
    asyncio.get_running_loop().call_soon(import_module, "agentctl.supervisor_client")
    handle = await provider.create(
        SandboxSpec(
            sandbox_id=sandbox_id,
            session_id=session.id,
            volume=volume,
            home=f"workspaces/{spec.workspace}" if spec.workspace else f"agents/{session.id}/home",
            log=mirror.log_path(session.id),
            boot=boot,
            labels=labels,
        )
    )
    return await _open_session(app, provider, session, body, sandbox_id, handle, labels, fencing)


async def _open_session(
    app: App,
    provider: Provider,
    session: Session,
    body: Json,
    sandbox_id: str,
    handle: Json,
    labels: dict[str, str],
    fencing: int,
) -> tuple[SupervisorClient, Json]:
    """Store the new sandbox, then open the session in it; when that fails nothing of the sandbox is left."""
    sandbox = Sandbox(
        id=sandbox_id,
        session_id=session.id,
        provider=provider.name,
        handle=handle,
        labels=labels,
        created_at=time.time(),
        fencing=fencing,
    )
    app.store.put_sandbox(sandbox)
    app.store.update_session(session.id, sandbox_id=sandbox_id, status="starting")
    client = await _client(provider, handle)
    try:
        snapshot = await client.create_session(session.id, body, timeout_s=START_TIMEOUT_S)
    except BaseException:
        await client.aclose()
        await provider.remove(handle)
        app.store.delete_sandbox(sandbox_id)
        mirror.from_volume(app, app.store.update_session(session.id, sandbox_id=None, status="hibernated"))
        raise
    app.store.update_session(session.id, native_session_id=snapshot["nativeSessionId"], status="idle")
    return client, snapshot


def launch_of(app: App, spec: SessionSpec) -> tuple[Recipe, Any]:
    """The recipe to start this session's agent by, and the credentials it gets. Raise ``AgentNotFound``,
    ``AgentNotInstalled``, ``Unsupported`` or ``CredentialsMissing``."""
    from agentctl import credentials
    from agentctl.agents import installed, recipes
    from agentctl.providers.bootstrap import ensure_runtime

    if spec.agent_command:
        return recipes.command_recipe(spec.agent_command), credentials.NONE
    recipe = recipes.find(spec.agent)
    wired = recipes.to_wire(
        recipe,
        installed=installed.installed(app.paths, recipe.name, recipe.version)
        or installed.installed(app.paths, recipe.name),
        runtime=ensure_runtime(app.paths, sys.executable),
        python=sys.executable,
        permissions=spec.permissions,
    )
    given = credentials.require(recipe, {**app.environ, **spec_environment(spec)}, app.user_home)
    return wired, given


def spec_environment(spec: SessionSpec) -> dict[str, str]:
    """``--env-file`` contents, read now, under ``--env``."""
    from agentctl.ops.envfile import read

    values: dict[str, str] = {}
    for path in spec.env_files:
        values.update(read(Path(path)))
    return {**values, **spec.env}


def _file_values(spec: SessionSpec) -> list[str]:
    """The values of ``--env-file``, to be redacted: such files hold secrets."""
    return [v for k, v in spec_environment(spec).items() if k not in spec.env]


def _session_request(app: App, session: Session, recipe: Recipe, on_lost: str | None) -> Json:
    """Credentials do not go this way: the recipe's variables reach the agent through Boot, exactly one kind of them."""
    spec = session.spec
    interrupted = mirror.open_turn_of(app, session.id)
    body = {
        "agent": spec.agent,
        "cwd": spec.cwd,
        "env": {k: v for k, v in spec_environment(spec).items() if k not in recipe.credentials},
        "mcpServers": list(spec.mcp_servers),
        "model": spec.model,
        "agentMode": spec.mode,
        "thoughtLevel": spec.thought_level,
        "options": spec.options,
        "permissionMode": spec.permissions,
        "policy": spec.policy,
        "nativeSessionId": session.native_session_id,
        "createdAt": session.created_at,
        "onLost": on_lost or spec.on_lost,
        "minSequence": session.last_sequence,
        "interruptedTurnId": interrupted.id if interrupted else None,
    }
    return {key: value for key, value in body.items() if value is not None}


async def _volume(app: App, provider: Provider, name: str) -> Volume:
    volume = app.store.volume(provider.name, name)
    if volume is None:
        volume = await provider.volume_create(name)
        app.store.put_volume(volume)
    return volume
