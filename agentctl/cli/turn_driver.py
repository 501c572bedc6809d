"""One turn, watched from its message to its end: events to the view, requests to the person, signals to the turn."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from agentctl.cli.asking import Attended, Requests, Unattended
from agentctl.cli.interrupts import Interrupts
from agentctl.cli.output import Output, write_json, write_lines
from agentctl.cli.plain_output import PlainView
from agentctl.cli.view import Teller, View
from agentctl.errors import AgentctlError
from agentctl.events import Event

if TYPE_CHECKING:
    from agentctl.model import Session
    from agentctl.ops.app import App
    from agentctl.ops.interrupted import TurnChain
    from agentctl.ops.result import Result
    from agentctl.ops.turn_stream import TurnStream
    from agentctl.ops.turns import Message

Json = dict[str, Any]


class Watcher(Protocol):
    """What a turn is shown to."""

    def step(self, text: str) -> None: ...

    def begin(self) -> None: ...

    def feed(self, batch: Sequence[Event]) -> None: ...

    def note(self, line: str, style: str = "") -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def cut_off(self, line: str) -> None: ...

    def cancelling(self, line: str) -> None: ...

    def finish(self, session: Session, result: Result) -> None: ...

    def close(self) -> None: ...


class ViewWatcher:
    """Tells a view."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._teller = Teller(view)
        self.step = view.step
        self.begin = view.begin
        self.feed = self._teller.feed
        self.note = view.note
        self.pause = view.pause
        self.resume = view.resume
        self.cut_off = view.cut_off
        self.cancelling = view.cancelling
        self.close = view.close

    def finish(self, session: Session, result: Result) -> None:
        self._view.finish(result)


class JsonWatcher:
    """Writes the events' own lines, or nothing but the result."""

    def __init__(self, out: Output, *, streams: bool) -> None:
        self._out = out
        self._streams = streams

    def step(self, text: str) -> None:
        self._out.story(text, "dim")

    def feed(self, batch: Sequence[Event]) -> None:
        if self._streams:
            write_lines([event.line for event in batch])

    def note(self, line: str, style: str = "") -> None:
        self._out.story(line, style)

    def cut_off(self, line: str) -> None:
        self._out.story(line, "warning")

    cancelling = cut_off

    def begin(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...

    def finish(self, session: Session, result: Result) -> None:
        line = result.to_json(session.id, session.name)
        if self._streams:
            write_json(line)
        else:
            write_json(_result_envelope(line, result))


def _result_envelope(line: Json, result: Result) -> Json:
    went_well = result.exit_code == 0
    error = None if went_well else result.error or _error_of(result.outcome)
    return {"agentctl": 1, "status": "ok" if went_well else "error", "data": line, "error": error}


def _error_of(outcome: str) -> Json:
    said = {"code": outcome, "message": f"The turn is {outcome}."}
    return {**said, "hint": None, "retryable": False, "details": {}}


def watcher(out: Output, *, streams: bool) -> Watcher:
    """The right one for this output: JSON lines, the terminal view, or plain text."""
    if out.json:
        return JsonWatcher(out, streams=streams)
    if out.rich and streams:
        from agentctl.cli.rich_output import RichView

        view = RichView(out)
        out.in_view = view.step
        return ViewWatcher(view)
    return ViewWatcher(PlainView(out, streams=streams and not out.quiet))


async def drive(
    app: App,
    session: Session,
    message: Message,
    watch: Watcher,
    out: Output,
    interrupts: Interrupts,
    *,
    attended: bool,
    hook: tuple[str, ...] = (),
) -> int:
    """Send the message, watch its turn to the end, and return the exit code of its result.

    Ctrl-C and SIGTERM cancel the turn, a second one kills it; a closed terminal leaves it running. ``hook`` is the
    command that is asked before anybody else.
    """
    from agentctl.ops.interrupted import open_turns

    try:
        async with open_turns(app, session.id, message, watch.step, watch.cut_off) as chain:
            requests = _requests(chain, watch, out, attended=attended, hook=hook)
            await _Driver(chain, watch, requests, interrupts).run()
            watch.finish(chain.session, chain.result)
            _say_what_helps(chain.result, watch)
            return interrupts.code or chain.result.exit_code
    finally:
        watch.close()


def _say_what_helps(result: Result, watch: Watcher) -> None:
    """A turn that was not completed: what its error advises."""
    if result.outcome != "completed" and result.error and result.error.get("hint"):
        watch.note(str(result.error["hint"]))


def _requests(chain: TurnChain, watch: Watcher, out: Output, *, attended: bool, hook: tuple[str, ...]) -> Requests:
    asked = Attended(chain.answer, watch, out) if attended else Unattended(chain.session.name, watch.note)
    if not hook:
        return asked
    from agentctl.cli.request_hook import HookedRequests

    return HookedRequests(hook, chain.answer, watch.note, asked)


def _place(position: int) -> str:
    if position == 1:
        return "Waiting for the running turn to end …"
    return f"Waiting in line behind {position} turns …"


class _Driver:
    def __init__(self, chain: TurnChain, watch: Watcher, requests: Requests, interrupts: Interrupts) -> None:
        self._chain = chain
        self._watch = watch
        self._interrupts = interrupts
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._requests = requests
        self._requests.report_failures_to(self._failed)
        self._begun: TurnStream | None = None
        self._waiting: TurnStream | None = None

    async def run(self) -> None:
        self._interrupts.handler = self._interrupted
        self._follow()
        try:
            async for batch in self._chain:
                self._follow()
                self._watch.feed(batch)
                self._requests.feed(batch)
        except asyncio.CancelledError:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            self._interrupts.handler = None
            await self._requests.close()
            for task in self._tasks:
                task.cancel()

    def _follow(self) -> None:
        """Say that the agent works on this turn now, or that others come first."""
        turn = self._chain.turn
        if turn is None or turn is self._begun:
            return
        if not turn.in_line:
            self._begun = turn
            self._watch.begin()
        elif turn is not self._waiting:
            self._waiting = turn
            self._watch.step(_place(turn.position or 1))

    def _failed(self, error: BaseException) -> None:
        self._failure = error
        self._interrupts.stop()

    def _interrupted(self, number: signal.Signals, count: int) -> None:
        if number == signal.SIGHUP or count > 2 or self._chain.turn is None:
            self._interrupts.stop()
            return
        again = " Once more kills the agent." if number == signal.SIGINT else ""
        self._watch.cancelling("Killing the agent …" if count == 2 else f"Cancelling the turn …{again}")
        task = asyncio.create_task(self._cancel(kill=count == 2))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel(self, *, kill: bool) -> None:
        try:
            await self._chain.cancel(kill=kill)
        except AgentctlError as e:
            self._watch.note(e.message, "warning")
