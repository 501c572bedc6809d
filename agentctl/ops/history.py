"""That no reader of a session's history passes over a hole without being told."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agentctl.errors import SequenceExpired
from agentctl.events import Event


async def unbroken(pages: AsyncIterator[list[Event]], offset: int) -> AsyncIterator[list[Event]]:
    """The pages, as far as each event follows on the one before, beginning with number ``offset + 1``.

    Raise ``SequenceExpired`` at numbers that were dropped by retention before the store had them. Numbers that never
    were, which a supervisor skips after a crash, are no hole: a ``log.gap`` event tells them.
    """
    async for page in pages:
        whole = _whole(page, offset)
        if whole:
            yield page[:whole]
            offset = page[whole - 1].sequence
        if whole < len(page):
            raise _expired(offset + 1, page[whole].sequence)


def _whole(page: list[Event], offset: int) -> int:
    """How many events of the page follow on one another, and on ``offset``."""
    if page and page[0].sequence == offset + 1 and page[-1].sequence == offset + len(page):
        return len(page)
    for index, event in enumerate(page):
        if event.sequence > offset + 1 and not (event.type == "log.gap" and event.data["from"] <= offset + 1):
            return index
        offset = event.sequence
    return len(page)


def _expired(missing: int, first: int) -> SequenceExpired:
    which = f"Event {missing} is" if first == missing + 1 else f"Events {missing} to {first - 1} are"
    return SequenceExpired(
        f"{which} no longer kept: the log was cut before they were read.",
        hint=f"What is there begins after them: --offset {first - 1}",
        details={"first": first},
    )
