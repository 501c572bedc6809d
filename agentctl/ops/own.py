"""A sandbox of its own, for what is done inside it: in the shape of a session that never had an agent.

Whatever runs a command or reads a file in a session's sandbox does the same in one without a session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agentctl.model import Sandbox, Session

if TYPE_CHECKING:
    from agentctl.ops.app import App


class Own(NamedTuple):
    """A reference to a sandbox of its own, where a plain text refers to a session."""

    name: str


Ref = str | Own


def find(app: App, ref: Ref) -> Session:
    """Raise ``SessionNotFound`` or ``SandboxNotFound`` with the nearest names."""
    return as_session(app.store.named_sandbox(ref.name)) if isinstance(ref, Own) else app.store.session(ref)


def as_session(sandbox: Sandbox) -> Session:
    assert sandbox.name is not None, "a session's sandbox has its session"
    assert sandbox.spec is not None, "a sandbox of its own has a spec"
    return Session(
        id=sandbox.id,
        name=sandbox.name,
        spec=sandbox.spec,
        status="new",
        created_at=sandbox.created_at,
        updated_at=sandbox.updated_at,
        sandbox_id=sandbox.id,
        place=sandbox.place,
    )


def is_own(session: Session) -> bool:
    """Whether this stands for a sandbox of its own."""
    return session.sandbox_id == session.id
