"""The turns that are not running: those that wait in line, and those that an earlier supervisor left without an end.

A message in line stands in the log, on disk, before its sender is told so: then only its end makes it go away. When a
sandbox ends, it stays queued in the log, and the next supervisor is told to take it over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.events import Draft
from agentctl.supervisor.turn import Message

if TYPE_CHECKING:
    from agentctl.supervisor.session import Session

Json = dict[str, Any]
QUEUE_LIMIT = 100
_TEXT_CHARS = 200
_EXPIRED = errors.DeadlineExceeded(
    "The turn's time was up while it waited in line behind others.",
    hint="A longer --timeout lets it wait longer; --no-wait leaves it in line.",
)
CUT_OFF = errors.SandboxError("The turn was cut off: its sandbox was ended before the agent had answered.")


class TurnQueue:
    """The messages in the order in which they will run; empty is false. ``ended`` keeps the first event's number of
    every turn that is over."""

    def __init__(self, session: Session, ended: dict[str, int]) -> None:
        self._session = session
        self._ended = ended
        self._messages: list[Message] = []
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def position(self, turn_id: str) -> int:
        """1 for the next one to run; 0 when it is not here."""
        return next((n for n, message in enumerate(self._messages, 1) if message.turn_id == turn_id), 0)

    def turn_ids(self) -> list[str]:
        return [message.turn_id for message in self._messages]

    def to_json(self) -> list[Json]:
        """As in a Snapshot of ``wire.py``; long texts are cut."""
        return [{"turn_id": message.turn_id, "text": _cut(message.text)} for message in self._messages]

    def add(self, message: Message) -> int:
        """Put it at the end, or at the head if it interrupts; its position. Raise ``QueueFull``, or what keeps the log
        from being written: it is not here then."""
        if len(self._messages) >= QUEUE_LIMIT:
            raise errors.QueueFull(
                f"The session's queue is full: {QUEUE_LIMIT} messages wait already.",
                hint="Wait for some of them to run, or cancel one.",
                details={"limit": QUEUE_LIMIT},
            )
        queued = Draft("turn.queued", {"turn_id": message.turn_id, "message": message.to_json()}, "daemon")
        self._session.write_apart([queued], turn_id=None)
        if self._session.failure is not None:
            raise self._session.failure
        place = 0 if message.when_busy == "interrupt" else len(self._messages)
        self._messages.insert(place, message)
        self._count_time(message)
        return place + 1

    def next(self) -> Message:
        """The first one, which is here no more; with what is left of its time."""
        message = self._messages.pop(0)
        waited_s = time.monotonic() - self._since.pop(message.turn_id)
        if message.timeout_s is None or message.in_line_s is None:
            return message
        return replace(message, timeout_s=max(round(message.timeout_s - waited_s, 3), 0.001))

    def cancel(self, turn_id: str) -> None:
        """Take it out: no agent has heard of it, and it ends as cancelled."""
        self._take_out(turn_id)
        self._end(turn_id, "cancelled")

    def _count_time(self, message: Message) -> None:
        self._since[message.turn_id] = time.monotonic()
        if message.in_line_s is not None:
            asyncio.get_running_loop().call_later(message.in_line_s, self._expire, message.turn_id)

    def _expire(self, turn_id: str) -> None:
        """Take it out, unless it runs or is over by now: its time was up before anybody had time for it."""
        if self.position(turn_id) and not self._session.is_closed:
            self._take_out(turn_id)
            self._end(turn_id, "timeout", _EXPIRED.to_json())

    def _take_out(self, turn_id: str) -> None:
        self._messages = [message for message in self._messages if message.turn_id != turn_id]
        self._since.pop(turn_id, None)

    def recover(self) -> None:
        """Take over what an earlier supervisor left, as the request and the log tell: a turn that was cut off ends as
        interrupted, with what was seen of it; what no agent has heard of is in line again. Raise ``UsageError``."""
        session = self._session
        queued = {message.turn_id: message for message in map(Message.from_json, session.request.queued)}
        interrupted = {session.request.interrupted_turn_id or ""} - {"", *queued}
        if not queued and not interrupted:
            return
        from agentctl.supervisor.unfinished import look_back

        past = look_back(session.log, {*queued, *interrupted})
        self._ended.update(dict.fromkeys(past.ended, 1))
        for turn_id in {*past.cut, *(interrupted - past.ended)}:
            seen = past.cut[turn_id].ends() if turn_id in past.cut else []
            self._end(turn_id, "interrupted", CUT_OFF.to_json(), seen)
        for message in queued.values():
            if message.turn_id not in self._ended:
                self._messages.append(message)
                self._count_time(message)

    def _end(self, turn_id: str, outcome: str, error: Json | None = None, before: Sequence[Draft] = ()) -> None:
        """Write the ``turn.ended`` of a turn that did not run here."""
        summary: Json = {
            "outcome": outcome,
            "stop_reason": None,
            "context": None,
            "usage": None,
            "cost": None,
            "duration_ms": None,
            "denied": [],
            "error": error,
        }
        data = {"phase": "ended", "turn_id": turn_id, "metadata": summary}
        synthetic = outcome == "interrupted"
        self._ended[turn_id] = 1 if synthetic else self._session.log.last_sequence + 1
        self._session.write_apart([*before, Draft("turn.ended", data, "daemon", synthetic)], turn_id=turn_id)


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_CHARS else text[:_TEXT_CHARS] + "…"
