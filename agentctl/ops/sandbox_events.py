"""The events of a sandbox of its own: what became of it, numbered, from the store that all commands write to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from agentctl import errors
from agentctl.events import Event
from agentctl.ops import sandbox_facts
from agentctl.ops.history import unbroken

if TYPE_CHECKING:
    from agentctl.ops.app import App

PAGE = 200
LOOK_S = 0.1
"""How often the store is read for the next event."""

LOOK_AGAIN_S = 2.0
"""How often the backend is asked whether the sandbox went by itself."""


async def events(
    app: App, ref: str, *, offset: int | None = None, limit: int | None = None, follow: bool = False
) -> AsyncIterator[list[Event]]:
    """Those after ``offset`` (None: from the first that is kept), in order; with ``follow`` also what comes, until the
    sandbox is deleted. One that was deleted has them for a week.

    Raise ``SandboxNotFound``, and ``SequenceExpired`` for an offset from which not all are kept.
    """
    sandbox_id = _found(app, ref)
    if offset is None:
        first = app.store.sandbox_events(sandbox_id, limit=1)
        offset = first[0][0] - 1 if first else 0
    pages = _followed(app, sandbox_id, offset) if follow else _kept(app, sandbox_id, offset)
    async for page in unbroken(pages, offset):
        yield page if limit is None else page[:limit]
        if limit is not None and (limit := limit - len(page)) <= 0:
            return


def _found(app: App, ref: str) -> str:
    try:
        return app.store.named_sandbox(ref).id
    except errors.SandboxNotFound:
        if (deleted := app.store.sandbox_of_events(ref)) is not None:
            return deleted
        raise


async def _kept(app: App, sandbox_id: str, offset: int) -> AsyncIterator[list[Event]]:
    while page := _page(app, sandbox_id, offset):
        offset = page[-1].sequence
        yield page


def _page(app: App, sandbox_id: str, offset: int) -> list[Event]:
    rows = app.store.sandbox_events(sandbox_id, offset=offset, limit=PAGE)
    return [Event(sequence, json.loads(line), line) for sequence, line in rows]


async def _followed(app: App, sandbox_id: str, offset: int) -> AsyncIterator[list[Event]]:
    looks = 0
    while True:
        is_there = looks % round(LOOK_AGAIN_S / LOOK_S) != 0 or await _is_there(app, sandbox_id)
        async for page in _kept(app, sandbox_id, offset):
            offset = page[-1].sequence
            yield page
            is_there = is_there and page[-1].type != "sandbox.deleted"
        if not is_there:
            return
        looks += 1
        await asyncio.sleep(LOOK_S)


async def _is_there(app: App, sandbox_id: str) -> bool:
    """Looking also tells, as an event, that it went by itself."""
    try:
        await sandbox_facts.get(app, sandbox_id)
    except errors.SandboxNotFound:
        return False
    return True
