"""A reader of a session's events who stays: through the death, the sleep and the replacement of its sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from agentctl import errors
from agentctl.events import Event
from agentctl.model import Session
from agentctl.ops import mirror, reach
from agentctl.ops.turn_stream import stored

if TYPE_CHECKING:
    from agentctl.ops.app import App

LOOK_S = 0.2
"""How often the session's row is read while it has no supervisor: whoever brings one up writes to it."""

LOOK_AGAIN_S = 5.0
"""How often the backend is asked all the same: a supervisor that was out of reach may be back, with no word of it."""


async def followed(app: App, session: Session, offset: int, *, include_raw: bool = False) -> AsyncIterator[list[Event]]:
    """All events after ``offset``, each once and in order, as they are written by the session's supervisors, of which
    one follows the other. No sandbox is brought up for a reader. What only the mirror has comes without its raw frame.

    Raise ``SessionNotFound`` when the session was deleted, ``SequenceExpired`` when a range is gone.
    """
    read_at: float | None = None
    while True:
        seen = app.store.session(session.id)
        has_lived = False
        async for batch in _of_living(app, seen, offset, include_raw):
            has_lived, offset = True, batch[-1].sequence
            yield batch
        if has_lived or _may_tell_more(app, seen, read_at):
            read_at = (await mirror.from_volume(app, app.store.session(session.id))).updated_at
        for batch in stored(app, session.id, offset):
            offset = batch[-1].sequence
            yield batch
        await _news(app, seen)


def _may_tell_more(app: App, seen: Session, read_at: float | None) -> bool:
    """Whether the log on the volume may have more than when the session's row was last changed at ``read_at``. In a
    cloud each look takes a sandbox; where none lives, none writes, and one that is starting tells by itself."""
    return not mirror.is_dear(app, seen) or (seen.updated_at != read_at and seen.status != "starting")


async def _of_living(app: App, session: Session, offset: int, include_raw: bool) -> AsyncIterator[list[Event]]:
    """What the supervisor that lives now writes, mirrored; to its end, or until it is out of reach."""
    client = await reach.live_client(app, session)
    if client is None:
        return
    async with client:
        try:
            async for batch in client.stream(session.id, offset, include_raw=include_raw):
                if not include_raw:
                    mirror.apply(app, session.id, batch)
                yield batch
        except (errors.SupervisorUnreachable, errors.SessionNotFound):
            app.store.session(session.id)  # raises when it was deleted


async def _news(app: App, seen: Session) -> None:
    """Wait for a change of the session's row since it was ``seen``, at most ``LOOK_AGAIN_S``."""
    for _ in range(round(LOOK_AGAIN_S / LOOK_S)):
        await asyncio.sleep(LOOK_S)
        if app.store.session(seen.id).updated_at != seen.updated_at:
            return
