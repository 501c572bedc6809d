"""The store's mirror of a session's log: events as they are, and the rows that can be read off them.

Everything here is derived from the log and idempotent: whoever mirrors, and however often, the store is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl.errors import NotFound, ProviderUnavailable, SandboxError, SequenceExpired
from agentctl.events import Event
from agentctl.model import Request, Session, Turn
from agentctl.ops import known_options
from agentctl.ops.app import App
from agentctl.ops.elsewhere import is_elsewhere

if TYPE_CHECKING:
    from agentctl.supervisor.log.session_log import Record

Json = dict[str, Any]
SYNC_BYTES = 1024 * 1024
"""Of the log at a time: each page is a transaction."""


def apply(app: App, session_id: str, batch: list[Event]) -> None:
    """Mirror a batch, in order. A batch may overlap what is there already.

    The events come last: whoever dies in here leaves them to be mirrored again, with the rows that they make. A batch
    that ends before what is mirrored is history, and says nothing of how the session is now.
    """
    if batch:
        telling = [event for event in batch if not event.type.startswith("item.")]
        _mirror(app, session_id, telling, [(event.sequence, event.line) for event in batch])


def _mirror(app: App, session_id: str, telling: list[Event], lines: list[tuple[int, bytes]]) -> None:
    """``telling`` are the events that rows are made of: all but those of items, which are by far the most."""
    fields: Json = {}
    for event in telling:
        fields.update(_fields_of(app, session_id, event))
        _keep_turn(app, session_id, event)
        _keep_request(app, session_id, event)
        if event.type == "session.config_changed" and event.data.get("options"):
            known_options.keep(app.paths, app.store.session(session_id), event.data["options"])
    if any(event.type == "turn.ended" for event in telling):
        fields.update(_used_so_far(app, session_id))
    if fields and lines[-1][0] >= app.store.session(session_id).last_sequence:
        app.store.update_session(session_id, **fields)
    app.store.add_events(session_id, lines)


def is_dear(app: App, session: Session) -> bool:
    """Whether this host reaches the session's volume through a sandbox only."""
    volume = app.store.volume(session.spec.provider, session.spec.volume)
    return volume is not None and app.provider(volume.provider).volume_path(volume, log_of(session)) is None


async def from_volume(app: App, session: Session) -> Session:
    """Bring the mirror up to date from the log on the volume, where this host can reach it. What retention dropped from
    the log before it was mirrored stays missing; ``history.py`` tells its readers."""
    if is_elsewhere(app, session):
        return session
    volume = app.store.volume(session.spec.provider, session.spec.volume)
    if volume is None:
        return session
    provider = app.provider(session.spec.provider)
    directory = provider.volume_path(volume, log_of(session))
    if directory is not None:
        return _from_log(app, session, directory)
    if session.status == "new" or await _from_supervisor(app, session):
        return app.store.session(session.id)
    with suppress(ProviderUnavailable):  # what is mirrored can still be read
        damage: list[tuple[str, int, int]] = []
        async with provider.volume_reading(volume, log_of(session), lambda *one: damage.append(one)) as directory:
            session = _from_log(app, session, directory)
        for problem, _, reaches in damage:
            _tell_damage(app, session, problem, reaches)
    return session


def _tell_damage(app: App, session: Session, problem: str, reaches: int) -> None:
    """Of events that are lost: what is in the store already is not. When a sandbox restores the log, it is an event."""
    if reaches > session.last_sequence:
        app.warn(
            f"The log of session {session.name} on its volume is damaged: a part of it is {problem}, and of its "
            f"{reaches} events those after {session.last_sequence} cannot be read."
        )


def _from_log(app: App, session: Session, directory: Path) -> Session:
    if not directory.is_dir():
        return session
    for page in _pages(directory, session.last_sequence):
        telling = [Event(r.sequence, json.loads(r.line), r.line) for r in page if not _is_of_item(r.line)]
        _mirror(app, session.id, telling, [(r.sequence, r.line) for r in page])
    return app.store.session(session.id)


async def _from_supervisor(app: App, session: Session) -> bool:
    """Whether a living supervisor told all there is: where the volume is out of reach, a copy of its log is dear."""
    sandbox = app.store.sandbox(session.sandbox_id) if session.sandbox_id else None
    if sandbox is None:
        return False
    from agentctl.supervisor_client import SupervisorClient

    try:
        endpoint, token = await app.provider(sandbox.provider).endpoint(sandbox.handle)
        offset = session.last_sequence
        async with SupervisorClient(endpoint, token) as client:
            while page := await client.events(session.id, offset):
                apply(app, session.id, page)
                offset = page[-1].sequence
    except (SandboxError, NotFound, SequenceExpired):
        return False
    return True


def _pages(directory: Path, after: int) -> Iterator[list[Record]]:
    from agentctl.supervisor.log.session_log import LogReader

    reader = LogReader(directory)
    while True:
        try:
            page = reader.read(after, max_bytes=SYNC_BYTES)
        except SequenceExpired as e:
            after = e.details["first"] - 1
            continue
        if not page:
            return
        yield page
        after = page[-1].sequence


def _is_of_item(line: bytes) -> bool:
    """Told from the bytes, since parsing is half of the cost of a long history. No member before ``data`` can hold an
    unescaped quote, and so not what is looked for."""
    return b'"type":"item.' in line[: line.find(b',"data":')]


def log_path(session_id: str) -> str:
    """Where a session's log lies on its volume."""
    return f"agents/{session_id}/log"


def log_of(session: Session) -> str:
    """The same, also for a session that lives in a sandbox of its own: then it is below that one's."""
    shared = session.spec.sandbox
    return log_path(session.id) if shared is None else f"{log_path(shared)}/sessions/{session.id}"


def open_turn_of(app: App, session_id: str) -> Turn | None:
    """The turn that began and, as far as the log tells, has not ended."""
    return next((t for t in reversed(app.store.turns(session_id, open_only=True)) if t.status != "queued"), None)


def queued_messages(app: App, session_id: str) -> list[Json]:
    """The messages that were acknowledged and not begun, in the order in which they are to run: one that was to
    interrupt goes before those that were to wait."""
    waiting = [t for t in app.store.turns(session_id, open_only=True) if t.status == "queued"]
    messages = [m for t in waiting if (m := _queued_message(app, t)) is not None]
    first = [m for m in messages if m.get("whenBusy") == "interrupt"]
    return [*reversed(first), *(m for m in messages if m.get("whenBusy") != "interrupt")]


def _queued_message(app: App, turn: Turn) -> Json | None:
    """What was said, as the ``turn.queued`` event has it."""
    sequence = turn.first_sequence or 1
    for number, line in app.store.events(turn.session_id, offset=sequence - 1, limit=1):
        if number == sequence:
            message: Json = json.loads(line)["data"]["message"]
            return {**message, "turnId": turn.id}
    return None


def _fields_of(app: App, session_id: str, event: Event) -> Json:
    """What an event changes in the session's row."""
    data = event.data
    match event.type:
        case "turn.started":
            return {"status": "busy", "last_turn_id": data["turn_id"]}
        case "turn.ended":
            return {} if _is_queued(app, session_id, data["turn_id"]) else _fields_of_end(data)
        case "turn.stalled":
            return {"status": "stalled"}
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
    return {"status": "idle", "last_turn_id": data["turn_id"], "last_outcome": data["metadata"]["outcome"]}


def _used_so_far(app: App, session_id: str) -> Json:
    """What all turns of a session used and cost, as far as it was told."""
    from agentctl.ops.usage import total

    usage, cost = total(app.store.turns(session_id))
    return {"usage": usage, "cost": cost}


def _is_queued(app: App, session_id: str, turn_id: str) -> bool:
    """Whether a turn never began: it was taken out of the line, and says nothing of how the session is."""
    turn = app.store.turn(session_id, turn_id)
    return turn is not None and turn.status == "queued"


def _keep_turn(app: App, session_id: str, event: Event) -> None:
    if event.type not in ("turn.queued", "turn.started", "turn.ended"):
        return
    turn_id = event.data["turn_id"]
    known = app.store.turn(session_id, turn_id)
    if event.type != "turn.ended":
        queued = event.type == "turn.queued"
        if known is None or (known.status == "queued" and not queued):
            begun = Turn(
                id=turn_id,
                session_id=session_id,
                status="queued" if queued else "running",
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
        if request.turn_id == ended.data["turn_id"] and request.sequence < ended.sequence:
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
