"""One turn, watched from its message to its end, wherever its events come from and whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.events import Event
from agentctl.frozen import frozen
from agentctl.model import Session
from agentctl.ops import known_options, mirror, reach
from agentctl.ops.result import Fold, Result, turn_of

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.supervisor_client import SupervisorClient

Json = dict[str, Any]
PAGE = 1000
RETRY_S = 3.0
LEAVE_S = 20.0
"""How long a supervisor may take to leave after it has told that its turn was cut off."""
GONE_POLL_S = 0.02


@frozen
class Start:
    """Where a stream begins to read: after event ``offset``. ``sent_as`` is what the turn was when it was sent;
    ``position`` its place in line then, None when it was not in line. ``goes_on_from`` are the cut-off turns that this
    one goes on from: what the log says between them and it is given out, too."""

    offset: int
    sent_as: str
    position: int | None = None
    goes_on_from: tuple[str, ...] = ()


class TurnStream:
    """The events of one turn as they are written to the log, each mirrored to the store before it is given out.

    Those of a throw-away session stay in the log alone: it is read into the store by whoever still asks for it.

    Iterate to the end, then read ``result``. Leaving early changes nothing for the turn.
    """

    def __init__(self, app: App, session: Session, turn_id: str, client: SupervisorClient | None, start: Start) -> None:
        self.session = session
        self.turn_id = turn_id
        self.sent_as = start.sent_as
        self.position = start.position
        self.in_line = start.sent_as == "queued"
        """Acknowledged, and not begun: no agent has heard of it."""
        self.lost_in_line = False
        """Its supervisor died before it began; the next one begins it."""
        self.goes_on_from = start.goes_on_from
        self._app = app
        self._client = client
        self._offset = start.offset
        self._fold = Fold(turn_id)

    @property
    def result(self) -> Result:
        """Raise ``LookupError`` before the turn has ended."""
        result = self._fold.result()
        if result is None:
            raise LookupError(f"turn {self.turn_id} has not ended")
        return result

    @property
    def has_ended(self) -> bool:
        return self._fold.ended is not None

    @property
    def read_to(self) -> int:
        """The number of the last event that was given out, or passed over."""
        return self._fold.end_sequence or self._offset

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        for own in self._from_store():
            yield own
        if self.has_ended:
            return
        if self._client is None:  # it has ended, but whoever mirrors it is not done
            await mirror.from_volume(self._app, self._app.store.session(self.session.id))
            for own in self._from_store():
                yield own
            return
        try:
            async with aclosing(self._live(self._client)) as batches:
                async for batch in batches:
                    if not self.session.ephemeral:
                        mirror.apply(self._app, self.session.id, batch)
                    elif batch[0].sequence == 1:  # what mirroring would find in it
                        known_options.take(self._app.paths, self.session, batch)
                    if own := self._take(batch):
                        yield own
                    if self.has_ended:
                        return
        except (errors.SupervisorUnreachable, errors.SessionNotFound) as e:
            lost: errors.AgentctlError = e
        else:
            lost = errors.SupervisorUnreachable("The sandbox's supervisor left in the middle of the turn.")
        async for own in self._after_loss(lost):
            yield own

    async def _live(self, client: SupervisorClient) -> AsyncGenerator[list[Event], None]:
        """Events as they are written. A broken connection is opened again for ``RETRY_S``, while the backend says that
        the sandbox runs; a backend that is away itself is waited for."""
        deadline: float | None = None
        while True:
            try:
                async with aclosing(client.stream(self.session.id, self._offset, retry_s=0)) as batches:
                    async for batch in batches:
                        deadline = None
                        yield batch
                return
            except errors.SupervisorUnreachable:
                from agentctl.ops import loss

                state = await loss.state_of(self._app, self.session)
                now = time.monotonic()
                deadline = deadline or now + RETRY_S
                if now >= deadline or state is None or state.status != "running":
                    raise
                await asyncio.sleep(0.1)

    def _from_store(self) -> Iterator[list[Event]]:
        for batch in stored(self._app, self.session.id, self._offset):
            if own := self._take(batch):
                yield own
            if self.has_ended:
                return

    def _take(self, batch: list[Event]) -> list[Event]:
        """What of the batch belongs to this turn's time: from its first event to its ``turn.ended``."""
        self._offset = batch[-1].sequence
        began = self._fold.first_sequence is not None
        self._fold.feed(batch)
        about_turns = [event for event in batch if event.body["type"].startswith("turn.")]
        if began and not about_turns:
            return batch
        if self._fold.first_sequence is not None:
            self.in_line = False
        elif any(e.type == "turn.queued" and turn_of(e) == self.turn_id for e in about_turns):
            self.in_line = True
        return [event for event in batch if self._is_ours(event)]

    def _is_ours(self, event: Event) -> bool:
        fold, whose = self._fold, turn_of(event)
        if event.type.startswith("turn."):  # also those of other turns in line are told while ours runs
            return whose == self.turn_id or whose in self.goes_on_from
        if fold.end_sequence is not None and event.sequence > fold.end_sequence:
            return False
        if fold.first_sequence is not None and event.sequence >= fold.first_sequence:
            return True
        return bool(self.goes_on_from) and (whose is None or whose in self.goes_on_from)

    async def _after_loss(self, error: errors.AgentctlError) -> AsyncIterator[list[Event]]:
        """The supervisor is gone: read what it still wrote; a turn without an end was interrupted. Raise ``error`` when
        the supervisor lives on and only says nothing, for then nobody knows; and when the turn was in line, for then
        the session's next supervisor begins it. A supervisor that gave up before it wrote anything says why. Raise
        ``SandboxPaused`` for a turn that is frozen with its sandbox."""
        from agentctl.ops import loss

        session = self._app.store.session(self.session.id)
        state = await loss.state_of(self._app, session)
        session = await mirror.from_volume(self._app, session)
        for own in self._from_store():
            yield own
        if self.has_ended:
            return
        replaced = session.sandbox_id != self.session.sandbox_id
        if not replaced and state is not None and state.status == "paused":
            raise loss.is_paused(session, state)
        failure = await self._failure()
        if failure is not None and self._fold.first_sequence is None:
            raise errors.from_code(failure["code"], failure["message"], hint=failure["hint"])
        if failure is None and not replaced and await reach.is_running(self._app, session):
            error.hint = f"The turn may be going on; see: agentctl sessions events {session.name} --follow"
            raise error
        if self.in_line:
            self.lost_in_line = True
            error.hint = (
                f"The message is in line still; the session goes on with: agentctl sessions resume {session.name}"
            )
            raise error
        error = error if replaced else loss.went_away(error, state)
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

    async def left_on_purpose(self) -> bool:
        """Whether the turn was cut off because somebody released the session. Waits for the supervisor to be gone, if
        it was that one which told of the end."""
        if self._fold.end_was_told:
            await self._gone()
        await mirror.from_volume(self._app, self._app.store.session(self.session.id))
        for page in stored(self._app, self.session.id, self.read_to):
            for event in page:
                if event.type in ("sandbox.released", "sandbox.agent_started"):
                    return event.type == "sandbox.released"
        return False

    async def _gone(self) -> None:
        """Wait until the supervisor has left, at most ``LEAVE_S``: whoever brings the session up removes the rest."""
        for _ in range(int(LEAVE_S / GONE_POLL_S)):
            if not await reach.is_running(self._app, self._app.store.session(self.session.id)):
                return
            await asyncio.sleep(GONE_POLL_S)

    async def cancel(self, *, kill: bool = False) -> None:
        """End the turn as cancelled, or take it out of the line; with ``kill`` the agent is not asked. Nothing happens
        when it has ended."""
        if self._client is not None:
            await self._client.cancel(self.session.id, kill=kill, turn_id=self.turn_id)

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
        await send_answer(self._client, self.session.id, kind, request_id, reply, option_id, content)


def stored(app: App, session_id: str, offset: int, *, limit: int = PAGE) -> Iterator[list[Event]]:
    """What the store has after ``offset``, in pages of ``limit`` events."""
    while rows := app.store.events(session_id, offset=offset, limit=limit):
        offset = rows[-1][0]
        yield [Event(sequence, json.loads(line), line) for sequence, line in rows]


async def send_answer(
    client: SupervisorClient,
    session_id: str,
    kind: str,
    request_id: str,
    reply: str | None,
    option_id: str | None,
    content: Json | None,
) -> None:
    """Tell the supervisor what a person says to a permission or a question."""
    if kind == "question":
        await client.reply_question(session_id, request_id, None if reply == "reject" else content or {})
        return
    body = {"optionId": option_id} if option_id else {"reply": reply}
    await client.reply_permission(session_id, request_id, body)
