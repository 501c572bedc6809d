"""Turns: sent, watched, cancelled; the events they leave; the requests they raise."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentctl import errors, ids
from agentctl.events import Event
from agentctl.model import Request, Session, Turn
from agentctl.ops import mirror, reach
from agentctl.ops.report import Report, silent
from agentctl.ops.result import Fold, Result

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.supervisor_client import SupervisorClient

Json = dict[str, Any]
PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a user sends. ``attachments`` are ACP content blocks; ``turn_id`` is the idempotency key, made up when None.

    ``timeout_s`` is the turn's deadline. ``request_timeout_s`` is how long a request may wait for an answer; None as
    long as the turn. ``permissions`` overrides the session's for this turn.
    """

    text: str
    attachments: tuple[Json, ...] = ()
    turn_id: str | None = None
    timeout_s: float | None = None
    request_timeout_s: float | None = None
    accept_denials: bool = False
    permissions: str | None = None
    on_lost: str | None = None

    def to_body(self, turn_id: str) -> Json:
        return {
            "message": self.text,
            "turnId": turn_id,
            "attachments": list(self.attachments),
            "timeoutS": self.timeout_s,
            "requestTimeoutS": self.request_timeout_s,
            "acceptDenials": self.accept_denials,
            "permissionMode": self.permissions,
            "onLost": self.on_lost,
        }


class TurnStream:
    """The events of one turn as they are written to the log, each mirrored to the store before it is given out.

    Those of a throw-away session stay in the log alone: it is read into the store by whoever still asks for it.

    Iterate to the end, then read ``result``. Leaving early changes nothing for the turn.
    """

    def __init__(self, app: App, session: Session, turn_id: str, client: SupervisorClient | None, offset: int) -> None:
        self.session = session
        self.turn_id = turn_id
        self._app = app
        self._client = client
        self._offset = offset
        self._fold = Fold(turn_id)

    @property
    def result(self) -> Result:
        """Raise ``LookupError`` before the turn has ended."""
        result = self._fold.result()
        if result is None:
            raise LookupError(f"turn {self.turn_id} has not ended")
        return result

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        for batch in _stored(self._app, self.session.id, self._offset):
            if own := self._take(batch):
                yield own
        if self._fold.ended is not None:
            return
        if self._client is None:  # it has ended, but whoever mirrors it is not done
            mirror.from_volume(self._app, self._app.store.session(self.session.id))
            for batch in _stored(self._app, self.session.id, self._offset):
                if own := self._take(batch):
                    yield own
            return
        try:
            async for batch in self._client.stream(self.session.id, self._offset):
                if not self.session.ephemeral:
                    mirror.apply(self._app, self.session.id, batch)
                if own := self._take(batch):
                    yield own
                if self._fold.ended is not None:
                    return
        except (errors.SupervisorUnreachable, errors.SessionNotFound) as e:
            lost: errors.AgentctlError = e
        else:
            lost = errors.SupervisorUnreachable("The sandbox's supervisor left in the middle of the turn.")
        async for batch in self._after_loss(lost):
            yield batch

    def _take(self, batch: list[Event]) -> list[Event]:
        """What of the batch belongs to this turn's time: from its first event to its ``turn.ended``."""
        self._offset = batch[-1].sequence
        before = self._fold.first_sequence
        self._fold.feed(batch)
        first, last = self._fold.first_sequence, self._fold.last_sequence
        if first is None:
            return []
        ended = self._fold.ended is not None
        return [e for e in batch if (before or e.sequence >= first) and not (ended and last and e.sequence > last)]

    async def _after_loss(self, error: errors.AgentctlError) -> AsyncIterator[list[Event]]:
        """The supervisor is gone: read what it still wrote; a turn without an end was interrupted. Raise ``error`` when
        the supervisor lives on and only says nothing, for then nobody knows."""
        session = mirror.from_volume(self._app, self._app.store.session(self.session.id))
        for batch in _stored(self._app, session.id, self._offset):
            if own := self._take(batch):
                yield own
        if self._fold.ended is not None:
            return
        failure = await self._failure()
        if failure is None and await reach.is_running(self._app, session):
            error.hint = f"The turn may be going on; see: agentctl sessions events {session.name} --follow"
            raise error
        error.hint = f"Nothing is sent again by itself; go on with: agentctl sessions stream {session.name} MESSAGE"
        self._fold.ended = {"outcome": "interrupted", "error": failure or error.to_json()}

    async def _failure(self) -> Json | None:
        """Why the supervisor gave the session up, such as a full disk; None when it has not or is not there."""
        assert self._client is not None
        try:
            failure: Json | None = (await self._client.snapshot(self.session.id, timeout_s=5))["error"]
        except (errors.SupervisorUnreachable, errors.SessionNotFound):
            return None
        return failure

    async def cancel(self, *, kill: bool = False) -> None:
        """End the turn as cancelled; with ``kill`` the agent is not asked. Nothing happens when it has ended."""
        if self._client is not None:
            await self._client.cancel(self.session.id, kill=kill)

    async def answer(
        self,
        request_id: str,
        *,
        reply: str | None = None,
        option_id: str | None = None,
        content: Json | None = None,
    ) -> None:
        """Answer a request of this turn. Raise ``RequestResolved`` when another was faster."""
        assert self._client is not None
        kind = "question" if "question_id" in self._fold.pending.get(request_id, {}) else "permission"
        await _answer(self._client, self.session.id, kind, request_id, reply, option_id, content)


def _stored(app: App, session_id: str, offset: int) -> list[list[Event]]:
    """What the store has after ``offset``, in pages."""
    pages = []
    while rows := app.store.events(session_id, offset=offset, limit=PAGE):
        offset = rows[-1][0]
        pages.append([Event(sequence, json.loads(line), line) for sequence, line in rows])
    return pages


@asynccontextmanager
async def open_turn(app: App, ref: str, message: Message, report: Report = silent) -> AsyncIterator[TurnStream]:
    """Send a message and watch its turn. The same ``turn_id`` again watches the same turn: it never runs twice.

    Raise ``SessionNotFound``, ``SessionBusy``, ``UsageError`` and whatever bringing the session up raises.
    """
    session = app.store.session(ref)
    turn_id = message.turn_id or ids.new_id("trn")
    if (known := _ended(app, session.id, turn_id)) is not None:
        yield TurnStream(app, session, turn_id, None, _before(known))
        return
    async with reach.living(app, session, report, on_lost=message.on_lost) as link:
        # Asked again: bringing it up brought the mirror up to date, and a new supervisor knows nothing of old turns.
        if (known := _ended(app, session.id, turn_id)) is not None:
            yield TurnStream(app, session, turn_id, None, _before(known))
            return
        await link.client.send(session.id, message.to_body(turn_id))
        known = app.store.turn(session.id, turn_id)
        offset = _before(known) if known else link.session.last_sequence
        yield TurnStream(app, link.session, turn_id, link.client, offset)


def _ended(app: App, session_id: str, turn_id: str) -> Turn | None:
    turn = app.store.turn(session_id, turn_id)
    return turn if turn is not None and turn.status == "ended" else None


def _before(turn: Turn) -> int:
    return (turn.first_sequence or 1) - 1


async def submit(app: App, ref: str, message: Message, report: Report = silent) -> str:
    """Send a message and do not wait. Returns the turn's id."""
    async with open_turn(app, ref, message, report) as turn:
        return turn.turn_id


async def events(
    app: App, ref: str, *, offset: int = 0, limit: int | None = None, follow: bool = False, include_raw: bool = False
) -> AsyncIterator[list[Event]]:
    """The session's events after number ``offset``, oldest first, in pages; with ``follow`` on and on.

    A living session is asked, a sleeping one is read from its mirror, brought up to date from the volume. Raw frames
    are only in the log itself.
    """
    session = app.store.session(ref)
    pages = _raw_events(app, session, offset) if include_raw else _events(app, session, offset, follow)
    if include_raw and follow:
        pages = _followed(app, session, offset, include_raw=True)
    left = limit
    async for batch in pages:
        batch = batch[:left]
        yield batch
        left = None if left is None else left - len(batch)
        if left == 0:
            return


async def _events(app: App, session: Session, offset: int, follow: bool) -> AsyncIterator[list[Event]]:
    """From the mirror, and then, with ``follow``, from the supervisor: its log may begin later than the mirror."""
    session = mirror.from_volume(app, session)
    for batch in _stored(app, session.id, offset):
        offset = batch[-1].sequence
        yield batch
    if follow:
        async for batch in _followed(app, session, offset):
            mirror.apply(app, session.id, batch)
            yield batch


async def _followed(
    app: App, session: Session, offset: int, *, include_raw: bool = False
) -> AsyncIterator[list[Event]]:
    client = await reach.live_client(app, session)
    if client is None:
        return
    async with client:
        async for batch in client.stream(session.id, offset, include_raw=include_raw):
            yield batch


async def _raw_events(app: App, session: Session, offset: int) -> AsyncIterator[list[Event]]:
    """With their frames from the living supervisor's log; a sleeping session's come without."""
    client = await reach.live_client(app, session)
    if client is None:
        async for batch in _events(app, session, offset, False):
            yield batch
        return
    async with client:
        while batch := await client.events(session.id, offset, include_raw=True):
            offset = batch[-1].sequence
            yield batch


async def transcript(app: App, ref: str) -> list[Json]:
    """The conversation's finished items, oldest first: ``{"turn_id", "time", "item"}``."""
    items = []
    async for batch in events(app, ref):
        items += [
            {"turn_id": e.turn_id, "time": e.body["time"], "item": e.data["item"]}
            for e in batch
            if e.type == "item.completed"
        ]
    return items


async def cancel(app: App, ref: str, *, kill: bool = False) -> Json:
    """End the session's running turn: ``{"turn_id", "cancelled"}``; ``cancelled`` is false when none was running."""
    session = app.store.session(ref)
    client = await reach.live_client(app, session)
    if client is None:
        return {"turn_id": None, "cancelled": False}
    async with client:
        return await client.cancel(session.id, kill=kill)


async def requests(app: App, ref: str | None = None) -> list[Request]:
    """The requests that wait for an answer, oldest first: of one session, or of all."""
    chosen = [app.store.session(ref)] if ref else [s for s in app.store.sessions(limit=None) if s.sandbox_id]
    found: list[Request] = []
    for session in chosen:
        mirror.from_volume(app, session)
        if await _is_live(app, session):
            found += app.store.requests(session.id)
    return found


async def _is_live(app: App, session: Session) -> bool:
    client = await reach.live_client(app, session)
    if client is None:
        return False
    await client.aclose()
    return True


async def answer(
    app: App,
    ref: str,
    request_id: str | None = None,
    *,
    reply: Literal["once", "always", "reject"] | None = None,
    option_id: str | None = None,
    content: Json | None = None,
) -> Request:
    """Answer a request, the only one that waits when no id is given. Raise ``RequestNotFound``, ``RequestResolved``
    (also for a request whose agent is gone) or ``UsageError``."""
    session = mirror.from_volume(app, app.store.session(ref))
    request = _chosen(app.store.requests(session.id, pending=request_id is None), request_id)
    client = await reach.live_client(app, session)
    if client is None:
        raise errors.RequestResolved(f"Request {request.id} has lapsed: the agent that asked is gone.")
    async with client:
        await _answer(client, session.id, request.kind, request.id, reply, option_id, content)
    return request


def _chosen(candidates: list[Request], request_id: str | None) -> Request:
    if request_id is None and len(candidates) == 1:
        return candidates[0]
    chosen = next((r for r in candidates if r.id == request_id), None)
    if chosen is not None:
        return chosen
    if request_id is None and candidates:
        raise errors.UsageError("Several requests wait: " + ", ".join(r.id for r in candidates))
    raise errors.RequestNotFound("No request waits." if request_id is None else f"No request {request_id} was found.")


async def _answer(
    client: SupervisorClient,
    session_id: str,
    kind: str,
    request_id: str,
    reply: str | None,
    option_id: str | None,
    content: Json | None,
) -> None:
    if kind == "question":
        await client.reply_question(session_id, request_id, None if reply == "reject" else content or {})
        return
    body = {"optionId": option_id} if option_id else {"reply": reply}
    await client.reply_permission(session_id, request_id, body)
