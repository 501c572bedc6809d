"""What ``--on-interrupt`` does: a turn that was cut off by the death of its sandbox is told, gone on from, or retried.

Nothing is sent twice by itself. ``continue`` and ``retry`` are new turns with ids made from the first one's, ``ID~2``
and ``ID~3``: whoever sends ``ID`` again, after a crash of its own, follows the same turns and runs none of them twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentctl import errors, ids
from agentctl.events import Event
from agentctl.ops.report import Report, silent
from agentctl.ops.turn_stream import TurnStream
from agentctl.ops.turns import Message, open_turn

if TYPE_CHECKING:
    from agentctl.model import OnInterrupt, Session
    from agentctl.ops.app import App
    from agentctl.ops.result import Result

Json = dict[str, Any]
ATTEMPTS = 3

CONTINUE = (
    "Your last turn was cut off before it had ended: the sandbox in which you were working went away. "
    "Look at what is done already, do not do it again, and go on from where you were."
)
_WHAT_NOW = {
    "continue": "going on with a new turn",
    "retry": "sending the message again as a new turn",
}


@asynccontextmanager
async def open_turns(
    app: App, ref: str, message: Message, report: Report = silent, tell: Report = silent
) -> AsyncIterator[TurnChain]:
    """Send a message and watch its turn, and the turns that follow when it is cut off. ``tell`` hears what happened.

    Raise what ``open_turn`` raises.
    """
    session = app.store.session(ref)
    message = replace(message, turn_id=message.turn_id or ids.new_id("trn"))
    async with AsyncExitStack() as stack:
        chain = TurnChain(app, session, message, report, tell, stack)
        await chain.open()
        yield chain


class TurnChain:
    """Like a ``TurnStream``, over all attempts: iterate to the end, then read ``result``, that of the last one."""

    def __init__(
        self, app: App, session: Session, message: Message, report: Report, tell: Report, stack: AsyncExitStack
    ) -> None:
        self.session = session
        self._app = app
        self._message = message
        self._report = report
        self._tell = tell
        self._stack = stack
        self._policy: OnInterrupt = message.on_interrupt or session.spec.on_interrupt
        self._ids = [str(message.turn_id)]
        self._cut_off: list[str] = []
        self._turn: TurnStream | None = None
        self._lost_in_line = 0
        self._stopped = False

    async def open(self) -> None:
        """Send the first message."""
        self._turn = await self._stack.enter_async_context(
            open_turn(self._app, self.session.id, self._message, self._report)
        )

    @property
    def turn(self) -> TurnStream | None:
        """The turn that is watched now; None while the next one is being brought up."""
        return self._turn

    @property
    def result(self) -> Result:
        """Raise ``LookupError`` before the last turn has ended."""
        if self._turn is None:
            raise LookupError("the next turn has not begun")
        result = replace(self._turn.result, interrupted=[*self._cut_off])
        if result.outcome == "interrupted":
            result.interrupted.append(result.turn_id)
            return replace(result, error=_with_hint(result, self.session))
        return result

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        while (turn := self._turn) is not None:
            try:
                async for batch in turn:
                    yield batch
            except errors.SupervisorUnreachable:
                if not self._stays_in_line(turn):
                    raise
            else:
                if not await self._goes_on(turn):
                    return
            await self._next(turn)

    def _stays_in_line(self, turn: TurnStream) -> bool:
        """A turn that had not begun when its supervisor died is begun by the next one; somebody has to bring it up."""
        if not turn.lost_in_line or self._stopped or self._lost_in_line >= ATTEMPTS:
            return False
        self._lost_in_line += 1
        self._tell("The sandbox went away while the message was in line: bringing it back …")
        return True

    async def _goes_on(self, turn: TurnStream) -> bool:
        if turn.result.outcome != "interrupted" or self._stopped:
            return False
        if self._policy == "fail" or len(self._ids) >= ATTEMPTS or await turn.left_on_purpose():
            return False
        self._cut_off.append(turn.turn_id)
        self._ids.append(f"{self._ids[0]}~{len(self._ids) + 1}")
        attempt = f"attempt {len(self._ids)} of {ATTEMPTS}"
        self._tell(f"The turn {turn.turn_id} was cut off: {_WHAT_NOW[self._policy]} ({attempt}).")
        return True

    async def _next(self, before: TurnStream) -> None:
        self._turn = None
        await self._stack.aclose()
        message = self._message_of(self._ids[-1])
        opened = open_turn(self._app, self.session.id, message, self._report, goes_on_from=before)
        try:
            self._turn = await self._stack.enter_async_context(opened)
        except errors.AgentctlError as e:
            e.details = {**e.details, "interrupted": self._cut_off}
            raise

    def _message_of(self, turn_id: str) -> Message:
        """Other turns may have been in line when the first one was cut off: it waits for them."""
        again = replace(self._message, turn_id=turn_id, when_busy="queue")
        if self._policy == "retry" or len(self._ids) == 1:
            return again
        return replace(again, text=CONTINUE, attachments=())

    async def cancel(self, *, kill: bool = False) -> None:
        """End the turn as cancelled; no other one follows."""
        self._stopped = True
        if self._turn is not None:
            await self._turn.cancel(kill=kill)

    async def answer(
        self, request_id: str, *, reply: str | None = None, option_id: str | None = None, content: Json | None = None
    ) -> None:
        """Answer a request of the turn. Raise ``RequestResolved`` when another was faster, or its agent is gone."""
        if self._turn is None:
            raise errors.RequestResolved(f"Request {request_id} has lapsed: the agent that asked is gone.")
        await self._turn.answer(request_id, reply=reply, option_id=option_id, content=content)


def _with_hint(result: Result, session: Session) -> Json:
    """The error of a turn that was cut off, with the commands that go on."""
    error = dict(result.error or errors.SandboxError("The turn was cut off.").to_json())
    if not session.ephemeral:
        command = f"agentctl sessions stream {session.name}"
        error["hint"] = (
            f'Nothing is sent again by itself. Go on with: {command} "Go on" — or repeat the message with '
            f"--turn-id {result.interrupted[0]} and --on-interrupt continue or retry"
        )
    return error
