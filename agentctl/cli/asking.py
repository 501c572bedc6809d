"""Who is told of a turn's requests: the person at the terminal, who answers; or a log, where nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol

from agentctl.cli import requests_text as words
from agentctl.cli.output import Output, write_story
from agentctl.errors import AgentctlError
from agentctl.events import Event

Json = dict[str, Any]

SETTLE_S = 0.05
"""A policy's answer comes right behind its request; only what is still open then is worth a question."""


class Reply(Protocol):
    async def __call__(
        self, request_id: str, *, reply: str | None, option_id: str | None = None, content: Json | None = None
    ) -> object: ...


class Pausable(Protocol):
    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Requests:
    """The requests that wait now, kept from events. Subclasses act on changes."""

    def __init__(self) -> None:
        self.waiting: dict[str, Json] = {}
        self._failed: Callable[[BaseException], None] | None = None

    def report_failures_to(self, failed: Callable[[BaseException], None]) -> None:
        """Who is told when asking itself fails."""
        self._failed = failed

    def _start(self, asking: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(asking)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and self._failed is not None:
            self._failed(error)

    def feed(self, batch: Sequence[Event]) -> None:
        before = set(self.waiting)
        for event in batch:
            kind = event.body["type"]
            if kind in ("permission.requested", "question.requested"):
                self.waiting[words.request_id(event.data)] = event.data
            elif kind in ("permission.resolved", "question.resolved"):
                self.waiting.pop(words.request_id(event.data), None)
                self.resolved(event.data)
        for request_id in self.waiting.keys() - before:
            self.requested(self.waiting[request_id])

    def requested(self, data: Json) -> None:
        """A request came that is not resolved in the same batch."""

    def resolved(self, data: Json) -> None:
        """A request was resolved, by whomever."""

    async def close(self) -> None:
        """No more events come."""


class Unattended(Requests):
    """Says how to answer from elsewhere."""

    def __init__(self, session: str, note: Callable[[str, str], None]) -> None:
        super().__init__()
        self._session = session
        self._note = note

    def requested(self, data: Json) -> None:
        self._note(f"Waiting for an answer: {words.title_of(data)}", "warning")
        self._note(f"  {words.how_to_answer(self._session, data)}", "")


class Attended(Requests):
    """Asks the person, one request after the other; an answer given elsewhere takes the question away."""

    def __init__(self, reply: Reply, view: Pausable, out: Output) -> None:
        super().__init__()
        self._reply = reply
        self._view = view
        self._out = out
        self._task: asyncio.Task[None] | None = None
        self._asked = ""
        self._elsewhere: asyncio.Future[Json] | None = None

    def requested(self, data: Json) -> None:
        if self._task is None or self._task.done():
            self._task = self._start(self._ask_all())

    def resolved(self, data: Json) -> None:
        if words.request_id(data) == self._asked and self._elsewhere and not self._elsewhere.done():
            self._elsewhere.set_result(data)

    async def _ask_all(self) -> None:
        await asyncio.sleep(SETTLE_S)
        while self.waiting:
            request_id, data = next(iter(self.waiting.items()))
            self._view.pause()
            try:
                await self._ask(request_id, data)
            finally:
                self._view.resume()
            self.waiting.pop(request_id, None)

    async def _ask(self, request_id: str, data: Json) -> None:
        from agentctl.cli.prompts import ask

        self._asked = request_id
        self._elsewhere = asyncio.get_running_loop().create_future()
        question = asyncio.create_task(ask(data, self._out))
        try:
            await _first(question, self._elsewhere)
            if self._elsewhere.done():
                self._say(_elsewhere(self._elsewhere.result()))
                return
            await self._send(request_id, question)
        except asyncio.CancelledError:
            self._say("no answer is needed any more")
            raise
        finally:
            question.cancel()
            self._asked = ""

    async def _send(self, request_id: str, question: asyncio.Task[Any]) -> None:
        from agentctl.cli.keyboard import KeyboardGone

        try:
            answer = question.result()
            self._say(answer.said)
            await self._reply(request_id, reply=answer.reply, option_id=answer.option_id, content=answer.content)
        except KeyboardGone:
            self._say("nobody is there to answer; it goes on waiting")
        except AgentctlError as e:
            self._say(e.message)

    def _say(self, said: str) -> None:
        write_story(f"→ {said}", "dim", self._out.color)

    async def close(self) -> None:
        """The last answer from elsewhere is still said; an open question is dropped."""
        if self._task is None or self._task.done():
            return
        if not (self._elsewhere and self._elsewhere.done()):
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


async def _first(question: asyncio.Task[Any], elsewhere: asyncio.Future[Json]) -> None:
    waiting: set[Awaitable[Any]] = {question, elsewhere}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]  # both are futures


def _elsewhere(data: Json) -> str:
    by = (data.get("metadata") or {}).get("by")
    status = {"accept": "allowed", "accept_for_session": "always allowed", "reject": "rejected"}
    what = status.get(data.get("status", ""), str(data.get("status", "")))
    match by:
        case "cancel":
            return "cancelled"
        case "timeout":
            return "nobody answered in time"
        case "policy":
            return f"{what} by the permissions in force"
        case _:
            return f"answered elsewhere: {what}"
