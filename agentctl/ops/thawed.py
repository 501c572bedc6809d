"""A session's sandbox that somebody paused: the next message lets it go on where it was, with all that lives in it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, cast

from agentctl import errors

if TYPE_CHECKING:
    from agentctl.model import Session
    from agentctl.ops.app import App
    from agentctl.ops.report import Report
    from agentctl.providers.base import PausingProvider


async def resume_paused(app: App, session: Session, report: Report) -> bool:
    """Whether it was paused and goes on now. Of one that shares a sandbox of its own, that one's user decides."""
    sandbox = app.store.sandbox(session.sandbox_id) if session.sandbox_id and session.spec.sandbox is None else None
    if sandbox is None:
        return False
    provider = app.provider(sandbox.provider)
    if not provider.capabilities.pause or (await provider.inspect(sandbox.handle)).status != "paused":
        return False
    report("The sandbox was paused: letting it go on …")
    with suppress(errors.SandboxNotFound):  # it was removed meanwhile: whoever looks again sees that
        await cast("PausingProvider", provider).resume(sandbox.handle)
    return True
