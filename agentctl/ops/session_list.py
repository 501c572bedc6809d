"""Sessions as they are listed: what the store has of them, without whatever it takes to talk to a sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentctl.model import WITHOUT_AGENT, Session
from agentctl.ops.elsewhere import is_elsewhere

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]


def stored(
    app: App, *, limit: int | None, labels: dict[str, str] | None = None, statuses: Sequence[str] = ()
) -> list[Session]:
    """Newest activity first, as the store has them: all among which ``chosen`` has to choose once they are as they are
    now."""
    return app.store.sessions(limit=None if statuses else limit, labels=labels)


def chosen(sessions: Sequence[Session], *, limit: int | None, statuses: Sequence[str] = ()) -> list[Session]:
    return [s for s in sessions if not statuses or s.status in statuses][:limit]


def may_have_changed(app: App, session: Session) -> bool:
    """Whether its sandbox may know better than the store, and can be asked."""
    if session.sandbox_id is None or session.status in WITHOUT_AGENT:
        return False
    return not is_elsewhere(app, session)


def in_line(app: App, sessions: Sequence[Session]) -> dict[str, int]:
    """How many messages wait in each session, by its id, where any do."""
    waiting = app.store.sessions_in_line()
    if not waiting:
        return {}
    from agentctl.ops import mirror

    return {s.id: len(mirror.queued_messages(app, s.id)) for s in sessions if s.id in waiting}


def to_json(session: Session) -> Json:
    """The session as ``--json`` shows it: the values of ``--env`` are the user's own and stay unsaid."""
    spec = session.spec
    return {
        "id": session.id,
        "name": session.name,
        "title": session.title,
        "agent": spec.agent,
        "agent_command": list(spec.agent_command) if spec.agent_command else None,
        "provider": spec.provider,
        "status": session.status,
        "model": spec.model,
        "mode": spec.mode,
        "thought_level": spec.thought_level,
        "options": spec.options,
        "permissions": spec.permissions,
        "cwd": spec.cwd,
        "root": spec.root,
        "sandbox": spec.sandbox,
        "volume": spec.volume,
        "workspace": spec.workspace,
        "env": sorted(spec.env),
        "secrets": [{"name": secret["name"], "from": secret["from"]} for secret in spec.secrets],
        "mcp_servers": [server["name"] for server in spec.mcp_servers],
        "skills": [skill["source"] for skill in spec.skills],
        "files": [file["target"] for file in spec.files],
        "pre_start": list(spec.pre_start),
        "user_agent": spec.user_agent,
        "clones": list(spec.clones),
        "copies": list(spec.copies),
        "project": spec.project,
        "labels": spec.labels,
        "origin": spec.origin,
        "native_session_id": session.native_session_id,
        "sandbox_id": session.sandbox_id,
        "place": session.place or None,
        "last_sequence": session.last_sequence,
        "last_turn_id": session.last_turn_id,
        "last_outcome": session.last_outcome,
        "usage": session.usage,
        "cost": session.cost,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
    }
