"""The store's mirror of a session's log: events as they are, and the rows that can be read off them.

Everything here is derived from the log and idempotent: whoever mirrors, and however often, the store is the same.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from agentctl.events import Event
from agentctl.model import Request, Session, Turn
from agentctl.ops.app import App

Json = dict[str, Any]


def apply(app: App, session_id: str, batch: list[Event]) -> None:
    """Mirror a batch, in order. A batch may overlap what is there already.

    The events come last: whoever dies in here leaves them to be mirrored again, with the rows that they make. A batch
    that ends before what is mirrored is history, and says nothing of how the session is now.
    """
    if not batch:
        return
    fields: Json = {}
    for event in batch:
        if not event.type.startswith("item."):  # by far the most, and no row is made of them
            fields.update(_fields_of(event))
            _keep_turn(app, session_id, event)
            _keep_request(app, session_id, event)
    if fields and batch[-1].sequence >= app.store.session(session_id).last_sequence:
        app.store.update_session(session_id, **fields)
    app.store.add_events(session_id, ((e.sequence, e.line) for e in batch))


def from_volume(app: App, session: Session) -> Session:
    """Bring the mirror up to date from the log on the volume, where this host can reach it."""
    import json

    from agentctl.supervisor.log import LogReader

    volume = app.store.volume(session.spec.provider, session.spec.volume)
    provider = app.provider(session.spec.provider)
    directory = provider.volume_path(volume, log_path(session.id)) if volume else None
    if directory is None or not directory.is_dir():
        return session
    reader = LogReader(directory)
    after = session.last_sequence
    while page := reader.read(after):
        after = page[-1].sequence
        apply(app, session.id, [Event(r.sequence, json.loads(r.line), r.line) for r in page])
    return app.store.session(session.id)


def log_path(session_id: str) -> str:
    """Where a session's log lies on its volume."""
    return f"agents/{session_id}/log"


def open_turn_of(app: App, session_id: str) -> Turn | None:
    """The turn that began and, as far as the log tells, has not ended."""
    return next((t for t in reversed(app.store.turns(session_id)) if t.status != "ended"), None)


def _fields_of(event: Event) -> Json:
    """What an event changes in the session's row."""
    data = event.data
    match event.type:
        case "turn.started":
            return {"status": "busy", "last_turn_id": data["turn_id"]}
        case "turn.ended":
            return _fields_of_end(data)
        case "permission.requested" | "question.requested":
            return {"status": "waiting"}
        case "permission.resolved" | "question.resolved":
            return {"status": "busy"} if event.turn_id else {}
        case "session.config_changed":
            return {"title": data["title"]} if data.get("title") else {}
        case "session.started" | "sandbox.agent_started":
            return {"native_session_id": event.body["native_session_id"], "status": "idle"}
        case "sandbox.hibernated" | "sandbox.released" | "session.ended":
            return {"status": "hibernated"}
    return {}


def _fields_of_end(data: Json) -> Json:
    end = data["metadata"]
    fields: Json = {"status": "idle", "last_turn_id": data["turn_id"], "last_outcome": end["outcome"]}
    if end.get("usage"):
        fields["usage"] = end["usage"]
    if end.get("cost"):
        fields["cost"] = end["cost"]
    return fields


def _keep_turn(app: App, session_id: str, event: Event) -> None:
    if event.type not in ("turn.started", "turn.ended"):
        return
    turn_id = event.data["turn_id"]
    known = app.store.turn(session_id, turn_id)
    if event.type == "turn.started":
        if known is None or known.first_sequence is None:
            begun = Turn(
                id=turn_id,
                session_id=session_id,
                status="running",
                created_at=known.created_at if known else _time_of(event),
                first_sequence=event.sequence,
            )
            app.store.put_turn(begun)
        return
    _lapse_requests(app, session_id, event)
    end = event.data["metadata"]
    app.store.put_turn(
        Turn(
            id=turn_id,
            session_id=session_id,
            status="ended",
            created_at=known.created_at if known else _time_of(event),
            first_sequence=known.first_sequence if known else event.sequence,
            last_sequence=event.sequence,
            outcome=end["outcome"],
            stop_reason=end.get("stop_reason"),
            ended_at=_time_of(event),
            result=end,
        )
    )


def _lapse_requests(app: App, session_id: str, ended: Event) -> None:
    """What still waits when its turn has ended was asked by an agent that died with its supervisor."""
    for request in app.store.requests(session_id):
        if request.turn_id == ended.turn_id and request.sequence < ended.sequence:
            app.store.put_request(replace(request, status="resolved", resolution={"metadata": {"by": "agent"}}))


def _keep_request(app: App, session_id: str, event: Event) -> None:
    kind, _, step = event.type.partition(".")
    if kind not in ("permission", "question") or step not in ("requested", "resolved"):
        return
    request_id = event.data.get("permission_id") or event.data["question_id"]
    before = next((r for r in app.store.requests(session_id, pending=False) if r.id == request_id), None)
    if step == "requested" and before is not None:
        return
    app.store.put_request(
        Request(
            id=request_id,
            session_id=session_id,
            turn_id=event.turn_id,
            kind="permission" if kind == "permission" else "question",
            status="pending" if step == "requested" else "resolved",
            sequence=before.sequence if before else event.sequence,
            created_at=before.created_at if before else _time_of(event),
            data=before.data if before else event.data,
            resolution=event.data if step == "resolved" else None,
        )
    )


def _time_of(event: Event) -> float:
    return datetime.fromisoformat(event.body["time"]).timestamp()
