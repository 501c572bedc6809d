"""What became of a sandbox whose supervisor fell silent in the middle of a turn: asked of the backend, in words."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agentctl import errors
from agentctl.ops import reach

if TYPE_CHECKING:
    from agentctl.model import Session
    from agentctl.ops.app import App
    from agentctl.providers.base import SandboxState

BACKEND_AWAY_S = 30.0
"""How long a backend that is away itself is waited for: an engine that is started again is back by then."""

_ASK_EVERY_S = 0.2


async def state_of(app: App, session: Session) -> SandboxState | None:
    """As ``reach.state_of``, from a backend that may be away for a while. Raise ``ProviderUnavailable``."""
    deadline = time.monotonic() + BACKEND_AWAY_S
    while True:
        try:
            return await reach.state_of(app, session)
        except errors.ProviderUnavailable as e:
            if time.monotonic() >= deadline:
                e.hint = f"The turn may be going on. When that is back: {_follow(session)}"
                raise
            await asyncio.sleep(_ASK_EVERY_S)


def is_paused(session: Session, state: SandboxState) -> errors.SandboxPaused:
    return errors.SandboxPaused(
        f"The sandbox of session {session.name} was paused in the middle of the turn: {state.detail}.",
        hint=f"The turn waits with it. The next message lets both go on; watch with: {_follow(session)}",
        details={"sandbox": session.sandbox_id, "status": state.status},
    )


def went_away(error: errors.AgentctlError, state: SandboxState | None) -> errors.AgentctlError:
    """``error``, or in its place what the backend knows of the end."""
    if state is None or state.status == "running" or not state.detail:
        return error
    return errors.SupervisorUnreachable(
        f"The sandbox went away in the middle of the turn: {state.detail}.",
        hint=error.hint,
        details={**error.details, "status": state.status},
    )


def _follow(session: Session) -> str:
    return f"agentctl sessions events {session.name} --follow"
