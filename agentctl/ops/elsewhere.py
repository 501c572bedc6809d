"""Sessions of a shared store whose volume lies on another machine: their history is read here, no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentctl.errors import SessionElsewhere

if TYPE_CHECKING:
    from agentctl.model import Session
    from agentctl.ops.app import App


def is_elsewhere(app: App, session: Session) -> bool:
    """Whether the session's volume, and with it any sandbox of it, is out of this machine's reach."""
    return session.place not in ("", app.place)


def require_here(app: App, session: Session) -> None:
    """Raise ``SessionElsewhere``, naming the machine, when this one can do nothing with the session but read."""
    if not is_elsewhere(app, session):
        return
    machine = app.machine_of(session.place)
    raise SessionElsewhere(
        f"Session {session.name} has its volume on {machine}, which this machine does not reach.",
        hint=f"Run the command there. Its history can be read here: agentctl sessions transcript {session.name}",
        details={"session": session.id, "machine": machine, "place": session.place},
    )
