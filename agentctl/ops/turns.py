"""Turns: sent, watched, cancelled; the events they leave; the requests they raise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

from agentctl import errors, ids
from agentctl.events import Event
from agentctl.frozen import frozen
from agentctl.model import OnInterrupt, Request, Session, Turn
from agentctl.ops import mirror, reach
from agentctl.ops.elsewhere import is_elsewhere
from agentctl.ops.follow import followed
from agentctl.ops.history import unbroken
from agentctl.ops.report import Report, silent
from agentctl.ops.turn_stream import Start, TurnStream, send_answer, stored

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]
WhenBusy = Literal["fail", "queue", "interrupt"]
_WAS_SENT: Json = {"status": "ended"}


@frozen
class Message:
    """What a user sends. ``attachments`` are ACP content blocks; ``turn_id`` is the idempotency key, made up when None.

    ``timeout_s`` is the turn's deadline, of which what it waits in line is a part where ``in_line_s``, the longest that
    it may wait there, is set. ``request_timeout_s`` is how long a request may wait for an answer; None as
    long as the turn. ``permissions``, ``stall_timeout_s`` (0 is never) and ``on_interrupt`` override the session's for
    this turn. ``when_busy`` says what a running turn means: an error, a place in line, or its end.
    """

    text: str
    attachments: tuple[Json, ...] = ()
    turn_id: str | None = None
    timeout_s: float | None = None
    in_line_s: float | None = None
    request_timeout_s: float | None = None
    accept_denials: bool = False
    permissions: str | None = None
    on_lost: str | None = None
    when_busy: WhenBusy = "fail"
    stall_timeout_s: float | None = None
    on_interrupt: OnInterrupt | None = None

    def to_body(self, turn_id: str) -> Json:
        return {
            "message": self.text,
            "turnId": turn_id,
            "attachments": list(self.attachments),
            "timeoutS": self.timeout_s,
            "inLineS": self.in_line_s,
            "requestTimeoutS": self.request_timeout_s,
            "acceptDenials": self.accept_denials,
            "permissionMode": self.permissions,
            "onLost": self.on_lost,
            "whenBusy": self.when_busy,
            "stallTimeoutS": self.stall_timeout_s,
        }


@asynccontextmanager
async def open_turn(
    app: App, ref: str, message: Message, report: Report = silent, *, goes_on_from: TurnStream | None = None
) -> AsyncIterator[TurnStream]:
    """Send a message and watch its turn. The same ``turn_id`` again watches the same turn: it never runs twice.

    With ``goes_on_from`` (a stream read to its end) nothing of the log is left out in between. Raise
    ``SessionNotFound``, ``SessionBusy``, ``QueueFull``, ``UsageError`` and whatever bringing the session up raises.
    """
    session = app.store.session(ref)
    turn_id = message.turn_id or ids.new_id("trn")
    async with AsyncExitStack() as stack:
        yield await _opened(app, session, turn_id, message, report, goes_on_from, stack)


async def _opened(
    app: App,
    session: Session,
    turn_id: str,
    message: Message,
    report: Report,
    before: TurnStream | None,
    stack: AsyncExitStack,
) -> TurnStream:
    """A supervisor that dies while it is sent the message is followed by another one, once: the id sees to it that
    what the first one began is not begun again."""
    if (known := _ended(app, session.id, turn_id)) is not None:
        return TurnStream(app, session, turn_id, None, _start(known, session, before, _WAS_SENT))
    for again in (True, False):
        link = await stack.enter_async_context(reach.living(app, session, report, on_lost=message.on_lost))
        # Asked again: bringing it up brought the mirror up to date, and a new supervisor knows nothing of old turns.
        if (known := _ended(app, session.id, turn_id)) is not None:
            return TurnStream(app, session, turn_id, None, _start(known, session, before, _WAS_SENT))
        try:
            said = await link.client.send(session.id, message.to_body(turn_id))
            break
        except errors.QueueFull:
            raise
        except errors.SessionBusy as e:
            e.hint = "Add --queue to wait in line, or --interrupt to end the turn that runs and then send."
            raise
        except errors.SupervisorUnreachable:
            if not again or await reach.is_running(app, session):
                raise
            await stack.aclose()
    known = app.store.turn(session.id, turn_id)
    start = _start(known, link.session, before, said)
    return TurnStream(app, link.session, turn_id, link.client, start)


def _start(known: Turn | None, session: Session, before: TurnStream | None, said: Json) -> Start:
    """What is read from here on is mirrored, and so must not begin after what is mirrored already: a turn's row may be
    there without the events before it, when its writer died between the two."""
    offset = session.last_sequence
    if before is not None:
        offset = before.read_to
    elif known is not None:
        offset = min(offset, (known.first_sequence or 1) - 1)
    return Start(
        offset=offset,
        sent_as=said["status"],
        position=said.get("position") or None,
        goes_on_from=(*before.goes_on_from, before.turn_id) if before else (),
    )


def _ended(app: App, session_id: str, turn_id: str) -> Turn | None:
    turn = app.store.turn(session_id, turn_id)
    return turn if turn is not None and turn.status == "ended" else None


async def send(app: App, ref: str, message: Message, report: Report = silent) -> Json:
    """Send a message and do not wait: ``{"turn_id", "status": "running"|"queued"|"ended", "position"}``; ``position``
    is 1 for the next in line, null for what is not in line."""
    async with open_turn(app, ref, message, report) as turn:
        return {"turn_id": turn.turn_id, "status": turn.sent_as, "position": turn.position}


async def submit(app: App, ref: str, message: Message, report: Report = silent) -> str:
    """Send a message and do not wait. Returns the turn's id."""
    turn_id: str = (await send(app, ref, message, report))["turn_id"]
    return turn_id


async def events(
    app: App, ref: str, *, offset: int = 0, limit: int | None = None, follow: bool = False, include_raw: bool = False
) -> AsyncIterator[list[Event]]:
    """The session's events after number ``offset``, oldest first, in pages; with ``follow`` on and on, through the
    death and the sleep of its sandbox.

    A living session is asked, a sleeping one is read from its mirror, brought up to date from the volume. Raw frames
    are only in the log itself.
    """
    session = app.store.session(ref)
    pages = _raw_events(app, session, offset) if include_raw else _events(app, session, offset, follow)
    if include_raw and follow:
        pages = followed(app, session, offset, include_raw=True)
    left = limit
    async for batch in unbroken(pages, offset):
        batch = batch[:left]
        yield batch
        left = None if left is None else left - len(batch)
        if left == 0:
            return


async def _events(app: App, session: Session, offset: int, follow: bool) -> AsyncIterator[list[Event]]:
    """From the mirror, and then, with ``follow``, from the supervisor: its log may begin later than the mirror."""
    session = await mirror.from_volume(app, session)
    for batch in stored(app, session.id, offset):
        offset = batch[-1].sequence
        yield batch
    if follow:
        async for batch in followed(app, session, offset):
            yield batch


async def _raw_events(app: App, session: Session, offset: int) -> AsyncIterator[list[Event]]:
    """With their frames from the living supervisor's log; a sleeping session's come without, and another machine's."""
    client = None if is_elsewhere(app, session) else await reach.live_client(app, session)
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


async def cancel(app: App, ref: str, *, turn_id: str | None = None, kill: bool = False) -> Json:
    """End the session's running turn, or the one named, which may wait in line: ``{"turn_id", "cancelled"}``;
    ``cancelled`` is false when it does neither."""
    session = app.store.session(ref)
    client = await reach.live_client(app, session)
    if client is None:
        return {"turn_id": turn_id, "cancelled": False}
    async with client:
        return await client.cancel(session.id, kill=kill, turn_id=turn_id)


def in_line(app: App, session: Session) -> list[Json]:
    """The messages that were acknowledged and have not begun, as the mirror knows them: ``{"turn_id", "text"}``, the
    next one first."""
    return [{"turn_id": m["turnId"], "text": m.get("message", "")} for m in mirror.queued_messages(app, session.id)]


async def requests(app: App, ref: str | None = None) -> list[Request]:
    """The requests that wait for an answer, oldest first: of one session, or of all."""
    chosen = [app.store.session(ref)] if ref else [s for s in app.store.sessions(limit=None) if s.sandbox_id]
    found: list[Request] = []
    for session in chosen:
        await mirror.from_volume(app, session)
        if is_elsewhere(app, session) or await _is_live(app, session):
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
    session = await mirror.from_volume(app, app.store.session(ref))
    request = _chosen(app.store.requests(session.id, pending=request_id is None), request_id)
    client = await reach.live_client(app, session)
    if client is None:
        raise errors.RequestResolved(f"Request {request.id} has lapsed: the agent that asked is gone.")
    async with client:
        try:
            await send_answer(client, session.id, request.kind, request.id, reply, option_id, content)
        except errors.RequestNotFound as e:  # it was asked in an earlier sandbox
            raise errors.RequestResolved(f"Request {request.id} has lapsed: the agent that asked is gone.") from e
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
