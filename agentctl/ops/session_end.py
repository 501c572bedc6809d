"""The end of a session's sandbox, and of the session: put to sleep, deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agentctl import errors
from agentctl.model import Session, Volume
from agentctl.ops import mirror, provision, reach, secrets, volume_needed
from agentctl.ops.elsewhere import require_here

if TYPE_CHECKING:
    from agentctl.ops.app import App


async def release(app: App, ref: str) -> Session:
    """Put the session to sleep: end its sandbox, keep its volume and log. Releasing a sleeping one succeeds."""
    async with asleep(app, ref) as session:
        return session


@asynccontextmanager
async def asleep(app: App, ref: str) -> AsyncIterator[Session]:
    """The session with its sandbox ended and its log mirrored; while the block lasts nobody brings it up."""
    session = app.store.session(ref)
    async with _without_sandbox(app, session):
        session = await mirror.from_volume(app, app.store.session(session.id))
        if session.status not in ("new", "hibernated") or session.sandbox_id is not None:
            session = app.store.update_session(session.id, status="hibernated", sandbox_id=None)
        yield session


async def delete(
    app: App,
    ref: str,
    *,
    at_once: bool = False,
    without_trace: bool = False,
    discard: bool = False,
    only_pulled: bool = False,
) -> None:
    """End the session's sandbox, delete its home and log from the volume, then the session. A workspace stays.

    ``at_once`` does not wait for the supervisor to write what is deleted anyway: for a throw-away session whose turn
    is over. ``without_trace``, as for any throw-away session: a volume that nobody asked for and that is empty goes
    with it. A worktree of its project goes, too, and its branch unless that has commits that would be lost; with
    ``discard`` in any case. With ``only_pulled`` raise ``Conflict``, before anything is done, for changes in a worktree
    that nobody has brought back.
    """
    session = app.store.session(ref)
    if only_pulled and session.spec.project is not None:
        from agentctl.ops import project_changes

        await project_changes.require_pulled(app, session)
    async with _without_sandbox(app, session, at_once=at_once):
        volume = app.store.volume(session.spec.provider, session.spec.volume)
        if volume is not None:
            empty = await app.provider(session.spec.provider).session_remove(volume, session.id)
            if session.spec.sandbox is not None:
                _remove_shared_log(app, session, volume)
        if session.spec.secrets:
            secrets.forget(app, session.id)
        if session.spec.project or session.spec.copies:
            from agentctl.ops import projects

            await projects.forget(app, session, discard=discard or without_trace)
        app.store.delete_session(session.id)
        if (session.ephemeral or without_trace) and volume is not None and empty is not None:
            await volume_needed.remove_empty(app, volume, session.id, is_empty=empty)


def _remove_shared_log(app: App, session: Session, volume: Volume) -> None:
    """Where this host reaches it; else it goes with its sandbox."""
    directory = app.provider(volume.provider).volume_path(volume, mirror.log_of(session))
    if directory is not None:
        from agentctl.providers.trees import remove_tree

        remove_tree(directory)


@asynccontextmanager
async def _without_sandbox(app: App, session: Session, *, at_once: bool = False) -> AsyncIterator[None]:
    """The session's lease, with nothing left of its sandbox.

    It is told to leave before the lease is waited for: a bring-up that hangs holds the lease, and fails by that.
    """
    require_here(app, session)
    if not at_once or session.spec.sandbox is not None:  # nobody else ends an agent in a sandbox that lives on
        await _ask_to_leave(app, session)
    async with reach.lease_of(app, session.id):
        now = app.store.session(session.id)
        if now.sandbox_id != session.sandbox_id:  # it came up while we waited
            await _ask_to_leave(app, now)
        await provision.clear_away(app, now, at_once=at_once)
        yield


async def _ask_to_leave(app: App, session: Session) -> None:
    """Have the supervisor leave in good order, where there is one; of a sandbox that others use too, only the agent."""
    client = await reach.supervisor_client(app, session)
    if client is not None:
        async with client:
            try:
                if session.spec.sandbox is not None:
                    await client.release(session.id)
                    return
                await client.shutdown()
                if sandbox := app.store.sandbox(session.sandbox_id or ""):
                    await reach.until_gone(app.provider(sandbox.provider), sandbox.handle)
            except errors.SupervisorUnreachable:
                pass  # it left while we were asking
