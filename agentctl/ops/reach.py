"""From a session to its living supervisor: found when it lives, brought up when it does not, never twice.

A sandbox is made under the session's lease (``provision.py``), so that of many commands one makes it and the others
find it. A supervisor may live without its session: when it was brought up for files, commands or a shell, none of which
need the agent or its credentials. The next message opens the session in that same supervisor, and brings the
credentials along as they are then; nothing that runs in the sandbox is disturbed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.frozen import frozen
from agentctl.model import WITHOUT_AGENT, Lease, Session
from agentctl.ops import launch, mirror, provision, services
from agentctl.ops.elsewhere import require_here
from agentctl.ops.own import is_own
from agentctl.ops.report import Report
from agentctl.ops.thawed import resume_paused

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.providers.base import Provider, SandboxState
    from agentctl.supervisor_client import SupervisorClient

Json = dict[str, Any]
LEASE_S = 60.0
"""Of a holder on another machine nothing is known but this: who lives renews it, who died is waited for so long."""

RENEW_S = 15.0
LEASE_WAIT_S = 60.0
START_TIMEOUT_S = 180.0
START_MARGIN_S = 90.0
"""On top of ``--start-timeout``: an agent's young session may have to be left alone for a minute first."""

PRE_START_S = 900.0
"""For each command of ``--pre-start``."""

ASK_S = 15.0
ASK_AGAIN_S = 3.0
"""A supervisor answers at once; one that is asked twice and says nothing for so long is taken for dead."""

LEAVE_TIMEOUT_S = 15.0
GONE_POLL_S = 0.01


@frozen
class Link:
    """A living session: its row, a client to its supervisor, and the supervisor's snapshot of it."""

    session: Session
    client: SupervisorClient
    snapshot: Json


@asynccontextmanager
async def living(app: App, session: Session, report: Report, *, on_lost: str | None = None) -> AsyncIterator[Link]:
    """The session with its supervisor and agent up, made so when they are not. Raise what bringing it up raises."""
    require_here(app, session)
    _note_use(app, session)
    found = await _look(app, session, ASK_S)
    if isinstance(found, Link) and found.snapshot["status"] != "starting":
        link = found
    else:  # whoever starts it holds the lease; when that one fails it is ours to do
        await _let_go(found)
        if session.status == "new" and session.spec.clones:
            from agentctl.ops import clone

            await clone.clone_missing(app, session, report)
        elif session.status == "new" and (session.spec.copies or session.spec.project):
            await _bring_copies(app, session, report)
        if session.spec.skills:
            from agentctl.ops import skill_sources

            await skill_sources.refresh(app.paths, session.spec.skills, report)
        link = await _bring_up(app, session, report, on_lost)
    async with link.client:
        try:
            yield link
        except errors.SessionNotFound as e:
            app.store.session(session.id)  # raises when it was deleted
            raise errors.SandboxError(
                f"Session {session.name} was put to sleep by another command at the same time.",
                hint="Do it again: that brings the session back.",
            ) from e


@asynccontextmanager
async def sandbox_of(app: App, session: Session, report: Report) -> AsyncIterator[SupervisorClient]:
    """A client to the session's supervisor, brought up when it is not: for its files, commands and terminals.

    The agent is not started, and its credentials are not needed. Raise what making a sandbox raises.
    """
    require_here(app, session)
    _note_use(app, session)
    if shared := _shared(session):
        client = await _shared_supervisor(app, shared, report)
    else:
        client = await _supervisor(app, session, ASK_S) or await _bring_up_bare(app, session, report)
    async with client:
        if session.status == "new" and (session.spec.copies or session.spec.project):
            from agentctl.ops import project_copies

            await project_copies.bring(app, session, client, report)
        yield client


def _note_use(app: App, session: Session) -> None:
    """For ``@last``."""
    if session.ephemeral or is_own(session):
        return
    with suppress(errors.StateError):  # on a full disk what runs can still be used
        app.store.update_session(session.id, used_at=time.time())


async def _bring_copies(app: App, session: Session, report: Report) -> None:
    """What a new session is to find in its sandbox before its agent starts."""
    from agentctl.ops import project_copies

    if project_copies.is_due(app, session):
        async with sandbox_of(app, session, report):
            return


def _shared(session: Session) -> str | None:
    """The id of the sandbox of its own in which the session lives, or for which it stands."""
    return session.id if is_own(session) else session.spec.sandbox


async def _shared_supervisor(app: App, sandbox_id: str, report: Report) -> SupervisorClient:
    from agentctl.ops import sandbox_up

    return await sandbox_up.connected(app, app.store.named_sandbox(sandbox_id), report)


async def _supervisor(app: App, session: Session, timeout_s: float) -> SupervisorClient | None:
    """A client to the session's supervisor when it answers and is not about to leave."""
    client = await supervisor_client(app, session)
    return None if client is None else await answering(client, timeout_s)


async def answering(client: SupervisorClient, timeout_s: float) -> SupervisorClient | None:
    """The client when its supervisor answers and is not about to leave; else it is closed."""
    async with AsyncExitStack() as unless_kept:
        unless_kept.push_async_callback(client.aclose)
        with suppress(errors.SupervisorUnreachable):
            if (await client.health(timeout_s=timeout_s))["status"] == "ok":
                unless_kept.pop_all()
                return client
    return None


async def _look(app: App, session: Session, timeout_s: float) -> Link | SupervisorClient | None:
    """The session where it lives, or a client to a supervisor that lives without it. None for what does not answer or
    has failed for good: ``_bring_up`` clears it away."""
    client = await supervisor_client(app, session)
    if client is None:
        return None
    async with AsyncExitStack() as unless_kept:
        unless_kept.push_async_callback(client.aclose)
        try:
            snapshot = await client.snapshot(session.id, timeout_s=timeout_s)
        except errors.SessionNotFound:
            unless_kept.pop_all()
            return client
        except errors.SupervisorUnreachable:
            return None
        if snapshot["status"] != "failed":
            unless_kept.pop_all()
            return Link(session=session, client=client, snapshot=snapshot)
    return None


async def _let_go(found: Link | SupervisorClient | None) -> None:
    if found is not None:
        await (found.client if isinstance(found, Link) else found).aclose()


async def is_running(app: App, session: Session) -> bool:
    """Whether the backend says that the session's sandbox runs, reachable or not. Raise ``SessionElsewhere``."""
    state = await state_of(app, session)
    return state is not None and state.status == "running"


async def state_of(app: App, session: Session) -> SandboxState | None:
    """What the backend says of the session's sandbox; None where the session has none. Raise ``SessionElsewhere``."""
    require_here(app, session)
    sandbox = app.store.sandbox(session.sandbox_id) if session.sandbox_id else None
    return None if sandbox is None else await app.provider(sandbox.provider).inspect(sandbox.handle)


async def live_client(app: App, session: Session) -> SupervisorClient | None:
    """A client to the running sandbox in which the session was opened; None when there is none. For reading: nothing
    is brought up. Asks the backend, never the store alone."""
    return None if session.status in WITHOUT_AGENT else await supervisor_client(app, session)


async def supervisor_client(app: App, session: Session) -> SupervisorClient | None:
    """A client to the session's running sandbox, whether the session was opened in it or not."""
    sandbox = app.store.sandbox(session.sandbox_id) if session.sandbox_id else None
    if sandbox is None:
        return None
    if not await is_running(app, session):
        return None
    try:
        return await client_to(app.provider(sandbox.provider), sandbox.handle)
    except errors.SandboxNotFound:
        return None  # its process lives, but what it is reached by was deleted


async def client_to(provider: Provider, handle: Json) -> SupervisorClient:
    """Raise ``SandboxNotFound`` when the sandbox is gone."""
    from agentctl.supervisor_client import SupervisorClient

    endpoint, token = await provider.endpoint(handle)
    return SupervisorClient(endpoint, token)


async def client_to_new(provider: Provider, handle: Json) -> SupervisorClient:
    """The same for a sandbox that has just been started. Raise ``SupervisorUnreachable`` when it is gone already."""
    try:
        return await client_to(provider, handle)
    except errors.SandboxNotFound as e:
        raise errors.SupervisorUnreachable(
            "The sandbox was started, and ended at once.", hint="Do it again: that starts another."
        ) from e


async def until_gone(provider: Provider, handle: Json) -> None:
    """After its supervisor was asked to leave: at most ``LEAVE_TIMEOUT_S``, then it is removed the hard way."""
    for _ in range(int(LEAVE_TIMEOUT_S / GONE_POLL_S)):
        if (await provider.inspect(handle)).status != "running":
            return
        await asyncio.sleep(GONE_POLL_S)


async def _bring_up(app: App, session: Session, report: Report, on_lost: str | None) -> Link:
    """Under the session's lease: whoever was faster has done it already."""
    async with lease_of(app, session.id) as lease:
        session = app.store.session(session.id)
        found = await _look(app, session, ASK_AGAIN_S)
        if found is None and await resume_paused(app, session, report):
            found = await _look(app, session, ASK_S)
        if isinstance(found, Link):
            return found
        if session.spec.sandbox is not None:
            await _let_go(found)
            return await _bring_up_shared(app, session, report, on_lost, lease)
        try:
            lives_in = app.store.sandbox(session.sandbox_id or "") if found is not None else None
            prepared = await launch.prepare(app, session, lives_in.handle if lives_in else None)
        except BaseException:
            await _let_go(found)
            raise
        report(f"Starting {prepared.recipe.name} …")
        found = found or await _started_again(app, session, lease, prepared, report)
        if found is not None and (link := await _open_in(app, found, session, prepared, on_lost, lease)) is not None:
            return link
        session = await _cleared(app, session)
        request = launch.session_request(app, session, prepared.recipe, on_lost)
        handle = await provision.create_sandbox(app, session, lease, prepared, request, services.story(report))
        try:
            client = await client_to_new(app.provider(session.spec.provider), handle)
            return await _opened(app, client, session, request)
        except BaseException:
            await provision.forget_sandbox(app, session, handle)
            raise


async def _started_again(
    app: App, session: Session, lease: Lease, prepared: launch.Launch | None, report: Report
) -> SupervisorClient | None:
    """A client to a new supervisor in the session's own sandbox, where that had stopped and could be started again."""
    sandbox = await provision.start_again(app, session, lease, prepared, services.story(report))
    if sandbox is None:
        return None
    app.store.put_sandbox(replace(sandbox, fencing=lease.fencing))
    return await client_to_new(app.provider(sandbox.provider), sandbox.handle)


async def _bring_up_shared(app: App, session: Session, report: Report, on_lost: str | None, lease: Lease) -> Link:
    """In its sandbox, which others use too: of an earlier opening there, no more is ended than what was its own."""
    assert session.spec.sandbox is not None
    launch.check(app, session.spec)
    client = await _shared_supervisor(app, session.spec.sandbox, report)
    try:
        shared = app.store.named_sandbox(session.spec.sandbox)
        prepared = await launch.prepare(app, session, shared.handle)
        report(f"Starting {prepared.recipe.name} …")
        await client.release(session.id)
        session = app.store.update_session(session.id, lease=lease, sandbox_id=session.spec.sandbox)
    except BaseException:
        await client.aclose()
        raise
    link = await _open_in(app, client, session, prepared, on_lost, lease)
    if link is None:
        raise errors.SupervisorUnreachable(
            f"The sandbox of session {session.name} was stopped at the same time.", hint="Do it again."
        )
    return link


async def _open_in(
    app: App, client: SupervisorClient, session: Session, prepared: launch.Launch, on_lost: str | None, lease: Lease
) -> Link | None:
    """Open the session in the supervisor that lives without it; None when that one is about to leave. It stays when the
    session does not open: whatever else runs in the sandbox is the user's."""
    try:
        session = await mirror.from_volume(app, session)
        request = launch.session_request(app, session, prepared.recipe, on_lost)
        app.store.update_session(session.id, lease=lease, status="starting")
    except BaseException:
        await client.aclose()
        raise
    try:
        return await _opened(app, client, session, {**request, "launch": prepared.to_json(lease.fencing)})
    except errors.SupervisorUnreachable:
        return None
    except BaseException:
        await mirror.from_volume(app, app.store.update_session(session.id, status="hibernated"))
        raise


async def _opened(app: App, client: SupervisorClient, session: Session, request: Json) -> Link:
    try:
        snapshot = await client.create_session(session.id, request, timeout_s=_start_limit_s(session))
    except BaseException:
        await client.aclose()
        raise
    now = app.store.update_session(session.id, native_session_id=snapshot["nativeSessionId"], status="idle")
    return Link(session=now, client=client, snapshot=snapshot)


def _start_limit_s(session: Session) -> float:
    """Longer than the supervisor itself gives the start: its error says more than our giving up."""
    spec = session.spec
    own = START_TIMEOUT_S if spec.start_timeout_s is None else spec.start_timeout_s + START_MARGIN_S
    return own + PRE_START_S * len(spec.pre_start)


async def _bring_up_bare(app: App, session: Session, report: Report) -> SupervisorClient:
    """A sandbox without its agent; the session sleeps on in its row."""
    async with lease_of(app, session.id) as lease:
        session = app.store.session(session.id)
        if (client := await _supervisor(app, session, ASK_AGAIN_S)) is not None:
            return client
        if await resume_paused(app, session, report) and (client := await _supervisor(app, session, ASK_S)) is not None:
            return client
        report("Starting the sandbox …")
        if (client := await _started_again(app, session, lease, None, report)) is not None:
            if session.status not in WITHOUT_AGENT:
                app.store.update_session(session.id, status="hibernated")
            return client
        session = await _cleared(app, session)
        if session.status not in WITHOUT_AGENT:
            session = app.store.update_session(session.id, status="hibernated")
        handle = await provision.create_sandbox(app, session, lease, None, None, services.story(report))
        return await client_to_new(app.provider(session.spec.provider), handle)


async def _cleared(app: App, session: Session) -> Session:
    """The session with nothing left of an earlier sandbox, and with all that it wrote."""
    await provision.clear_away(app, session)
    return session if session.status == "new" else await mirror.from_volume(app, session)


@asynccontextmanager
async def lease_of(app: App, session_id: str) -> AsyncIterator[Lease]:
    """Hold the session's lease, after waiting for another command of this or another process to let go of it.

    It is renewed while it is held. A holder that was stopped for so long that another took it over is refused by the
    store and by the session's log (``LeaseLost``). Raise ``SessionBusy`` naming the holder when that one does not let
    go within ``LEASE_WAIT_S``.
    """
    from agentctl.store.leases import this_holder

    async with app.lock(session_id):
        lease = await _acquired(app, session_id, this_holder())
        renewing = asyncio.create_task(_renew(app, lease))
        try:
            yield lease
        finally:
            renewing.cancel()
            app.store.release_lease(lease)


async def _renew(app: App, lease: Lease) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        with suppress(errors.NotFound, errors.LeaseLost, errors.StateError):  # whoever writes next is told
            app.store.renew_lease(lease, ttl_s=LEASE_S)


async def _acquired(app: App, session_id: str, holder: str) -> Lease:
    deadline = time.monotonic() + LEASE_WAIT_S
    while True:
        try:
            return app.store.acquire_lease(session_id, holder=holder, ttl_s=LEASE_S)
        except errors.SessionBusy:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(0.05)
