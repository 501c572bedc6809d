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
    from agentctl.ops.result import Result
    from agentctl.ops.turns import Message, TurnStream

Json = dict[str, Any]


class Watcher(Protocol):
    """What a turn is shown to."""

    def step(self, text: str) -> None: ...

    def begin(self) -> None: ...

    def feed(self, batch: Sequence[Event]) -> None: ...

    def note(self, line: str, style: str = "") -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

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
            write_lines(event.line for event in batch)

    def note(self, line: str, style: str = "") -> None:
        self._out.story(line, style)

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
    error = None if went_well else result.error or {"code": result.outcome, "message": f"The turn is {result.outcome}."}
    return {"agentctl": 1, "status": "ok" if went_well else "error", "data": line, "error": error}


def watcher(out: Output, *, streams: bool) -> Watcher:
    """The right one for this output: JSON lines, the terminal view, or plain text."""
    if out.json:
        return JsonWatcher(out, streams=streams)
    if out.rich and streams:
        from agentctl.cli.rich_output import RichView

        return ViewWatcher(RichView(out))
    return ViewWatcher(PlainView(out, streams=streams and not out.quiet))


async def drive(
    app: App, session: Session, message: Message, watch: Watcher, out: Output, interrupts: Interrupts, *, attended: bool
) -> int:
    """Send the message, watch its turn to the end, and return the exit code of its result.

    Ctrl-C and SIGTERM cancel the turn, a second one kills it; a closed terminal leaves it running.
    """
    from agentctl.ops.turns import open_turn

    try:
        async with open_turn(app, session.id, message, watch.step) as turn:
            await _Driver(turn, watch, out, interrupts, attended).run()
            watch.finish(turn.session, turn.result)
            return interrupts.code or turn.result.exit_code
    finally:
        watch.close()


class _Driver:
    def __init__(self, turn: TurnStream, watch: Watcher, out: Output, interrupts: Interrupts, attended: bool) -> None:
        self._turn = turn
        self._watch = watch
        self._interrupts = interrupts
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._requests: Requests = (
            Attended(turn.answer, watch, out, self._failed) if attended else Unattended(turn.session.name, watch.note)
        )

    async def run(self) -> None:
        self._interrupts.handler = self._interrupted
        self._watch.begin()
        try:
            async for batch in self._turn:
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

    def _failed(self, error: BaseException) -> None:
        self._failure = error
        self._interrupts.stop()

    def _interrupted(self, number: signal.Signals, count: int) -> None:
        if number == signal.SIGHUP or count > 2:
            self._interrupts.stop()
            return
        again = " Once more kills the agent." if number == signal.SIGINT else ""
        self._watch.note("Killing the agent …" if count == 2 else f"Cancelling the turn …{again}", "warning")
        task = asyncio.create_task(self._cancel(kill=count == 2))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel(self, *, kill: bool) -> None:
        try:
            await self._turn.cancel(kill=kill)
        except AgentctlError as e:
            self._watch.note(e.message, "warning")
