"""One conversation on a stage: what a scenario does to it, and what has to be true of it afterwards."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from agentctl.events import Event
from agentctl.model import Sandbox, Session, SessionSpec
from agentctl.ops import sessions, turns
from agentctl.ops.app import App
from agentctl.ops.result import Result
from tests.recovery.plugs import Plug
from tests.recovery.talk import Talk

TURN_LIMIT_S = 60.0
Test = TypeVar("Test", bound=Callable[..., Any])


def context_matters(test: Test) -> Test:
    """Run this scenario with real agents as well."""
    test.context_matters = True  # type: ignore[attr-defined]
    return test


def alone(test: Test) -> Test:
    """Play this scenario with a state directory and a session of its own: what it does cannot be undone."""
    test.alone = True  # type: ignore[attr-defined]
    return test


@dataclass(slots=True)
class Said:
    """What an agent has to know: all that was said in its session, by whatever scenario."""

    session_id: str = ""
    values: list[str] = field(default_factory=list)


class Stage:
    """``session`` is read anew from the store; ``sandbox_ids`` are all the sandboxes that were seen."""

    def __init__(self, app: App, plug: Plug, talk: Talk, said: Said) -> None:
        self.app = app
        self.plug = plug
        self.talk = talk
        self.sandbox_ids: list[str] = []
        self._said = said
        self._readers: list[Reader] = []

    @classmethod
    async def create(cls, app: App, plug: Plug, talk: Talk, cwd: Path, said: Said) -> Self:
        if not app.store.sessions(limit=None):
            spec = SessionSpec(agent=talk.agent, provider=plug.provider, permissions="allow", **plug.spec(cwd))
            session = await sessions.create(app, spec, name="work", provision=False)
            said.session_id, said.values = session.id, []
        return cls(app, plug, talk, said)

    @property
    def session(self) -> Session:
        return self.app.store.session(self._said.session_id)

    @property
    def sandbox(self) -> Sandbox:
        session = self.session
        assert session.sandbox_id is not None
        sandbox = self.app.store.sandbox(session.sandbox_id)
        assert sandbox is not None
        return sandbox

    async def say(self, text: str, *, app: App | None = None, turn_id: str | None = None) -> Result:
        """Send a message from this or another client and read its turn to the end."""
        message = turns.Message(text=text, turn_id=turn_id)
        async with asyncio.timeout(TURN_LIMIT_S), turns.open_turn(app or self.app, "work", message) as turn:
            async for _ in turn:
                pass
        self._note_sandbox()
        return turn.result

    async def first_turn(self, *said: str) -> tuple[Session, Sandbox]:
        """A turn for each text: that is what the agent has to know ever after. The session and sandbox it left."""
        for text in said:
            text = f"{text} {secrets.token_hex(3)}"
            assert (await self.say(self.talk.tell(text))).outcome == "completed"
            self._said.values.append(text)
        return self.session, self.sandbox

    async def made_up_value(self) -> str:
        """A turn in which the agent comes by a value that nobody typed; it has to know that too."""
        value = f"kingfisher-{secrets.token_hex(3)}"
        result = await self.say(self.talk.make_up(value))
        assert value.upper() in result.text
        self._said.values.append(value.upper())
        return value.upper()

    async def goes_on(
        self, before: Session, *, app: App | None = None, context: tuple[str, ...] = ("restored",)
    ) -> Result:
        """The next message works with no help: answered, on the agent's own session, with all that was said before."""
        message = self.talk.ask()
        result = await self.say(message, app=app)
        assert (result.outcome, result.error) == ("completed", None)
        assert result.text
        self.is_the_same_conversation(before)
        assert result.context in context
        known = self.talk.known(message, result)
        assert [value for value in self._said.values if value not in known] == []
        return result

    def is_the_same_conversation(self, before: Session) -> None:
        assert before.native_session_id is not None
        assert self.session.native_session_id == before.native_session_id

    def has_the_sandbox(self, before: Sandbox, *, again: bool) -> None:
        """It runs in the same sandbox, or in another one and the old one is gone; in one sandbox at any rate."""
        assert (self.sandbox.id == before.id) is again
        assert [s.id for s in self.app.store.sandboxes()] == [self.sandbox.id]

    def reads_on(self, app: App | None = None) -> Reader:
        """A reader who holds one event stream open from now to the end of the test."""
        reader = Reader(app or self.app, self.session.last_sequence)
        self._readers.append(reader)
        return reader

    async def close(self) -> None:
        for reader in self._readers:
            await reader.close()

    def _note_sandbox(self) -> None:
        if self.session.sandbox_id is not None:
            self.sandbox_ids.append(self.session.sandbox_id)


class Reader:
    """``sessions events --follow``: one open stream, its events as they came."""

    def __init__(self, app: App, offset: int) -> None:
        self.events: list[Event] = []
        self._offset = offset
        self._app = app
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for batch in turns.events(self._app, "work", offset=self._offset, follow=True):
                self.events += batch
                self._news.set()
        finally:
            self._news.set()

    async def ended(self, turn_id: str, timeout_s: float = 60) -> None:
        """Wait for that turn's end to arrive on this stream."""
        async with asyncio.timeout(timeout_s):
            while not any(e.type == "turn.ended" and e.turn_id == turn_id for e in self.events):
                assert not self._task.done(), f"the stream ended before {turn_id} did: {self._task!r}"
                self._news.clear()
                await self._news.wait()

    async def end(self, timeout_s: float = 60) -> None:
        """Wait for the stream's own end; raise what it ended with."""
        await asyncio.wait_for(asyncio.shield(self._task), timeout_s)

    @property
    def is_whole(self) -> bool:
        """Every number once and in order."""
        numbers = [event.sequence for event in self.events]
        return numbers == list(range(self._offset + 1, self._offset + 1 + len(numbers)))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
