"""A turn's result: folded from its events, printed as the last line of every stream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Any, Literal

from agentctl import errors, events
from agentctl.frozen import frozen
from agentctl.model import Context, Outcome

Json = dict[str, Any]

_EXIT_CODES: dict[str, int] = {
    "completed": 0,
    "refused": 9,
    "limit": 9,
    "cancelled": 130,
    "denied": 5,
    "timeout": 3,
    "interrupted": 8,
}


@frozen
class Result:
    """``text`` is the agent's last message of the turn. ``denied`` lists rejected requests, ``pending`` the ids of
    requests that still wait. ``usage`` and ``cost`` are null where the agent reported none. ``interrupted`` are the ids
    of the turns that were cut off on the way to this result, oldest first."""

    turn_id: str
    outcome: Outcome
    stop_reason: str | None = None
    text: str = ""
    context: Context | None = None
    usage: Json | None = None
    cost: Json | None = None
    duration_ms: int | None = None
    denied: list[Json] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    error: Json | None = None
    interrupted: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """The exit code of ``design.md`` for this outcome."""
        if self.outcome == "failed":
            code = (self.error or {}).get("code", "agent_error")
            return errors.from_code(code, "").exit_code
        return _EXIT_CODES[self.outcome]

    def to_json(self, session_id: str, session: str) -> Json:
        """The result line: the last line of every ``--json`` stream."""
        return {
            "type": "result",
            "session_id": session_id,
            "session": session,
            "turn_id": self.turn_id,
            "outcome": self.outcome,
            "stop_reason": self.stop_reason,
            "text": self.text,
            "context": self.context,
            "usage": self.usage,
            "cost": self.cost,
            "duration_ms": self.duration_ms,
            "denied": self.denied,
            "pending": self.pending,
            "interrupted": self.interrupted,
            "error": self.error,
        }


class Fold:
    """Reads the events of one turn, in order, until ``turn.ended``; ``status`` follows what a watcher would say.

    A message that was begun and never completed, because its turn was interrupted, counts with what was seen of it.
    """

    def __init__(self, turn_id: str) -> None:
        self.turn_id = turn_id
        self.first_sequence: int | None = None
        self.last_sequence: int | None = None
        self.end_sequence: int | None = None
        self.end_was_told = False
        """Whether the turn's own supervisor told of its end, rather than one that came after."""
        self.pending: dict[str, Json] = {}
        self.ended: Json | None = None
        self._text = ""
        self._open_item: str | None = None
        self._begun: list[str] = []

    @property
    def status(self) -> Literal["queued", "running", "waiting", "ended"]:
        if self.ended is not None:
            return "ended"
        if self.first_sequence is None:
            return "queued"
        return "waiting" if self.pending else "running"

    def feed(self, batch: Iterable[events.Event]) -> None:
        for event in batch:
            if event.body["type"] == "item.delta":
                self._feed_delta(event.sequence, event.body)
            elif turn_of(event) == self.turn_id and self.ended is None and event.type != "turn.queued":
                self._feed(event)

    def _feed_delta(self, sequence: int, body: Json) -> None:
        """What most events are, and so without what the others need."""
        if body.get("turn_id") != self.turn_id or self.ended is not None:
            return
        self.first_sequence = self.first_sequence or sequence
        self.last_sequence = sequence
        data = body["data"]
        if data["item_id"] == self._open_item:
            self._begun.append(data["delta"])

    def _feed(self, event: events.Event) -> None:
        self.first_sequence = self.first_sequence or event.sequence
        self.last_sequence = event.sequence
        data = event.data
        match event.type:
            case "item.started":
                if _is_answer(data["item"]):
                    self._open_item, self._begun = data["item"]["item_id"], []
            case "item.completed":
                if _is_answer(data["item"]):
                    self._text = events.text_of(data["item"]) or self._text
                    self._open_item, self._begun = None, []
            case "permission.requested" | "question.requested":
                self.pending[data.get("permission_id") or data["question_id"]] = data
            case "permission.resolved" | "question.resolved":
                self.pending.pop(data.get("permission_id") or data["question_id"], None)
            case "turn.ended":
                self.ended, self.end_sequence = data["metadata"], event.sequence
                self.end_was_told = not event.body.get("synthetic")

    def result(self) -> Result | None:
        """The result, once the turn has ended."""
        if self.ended is None:
            return None
        return result_of(self.turn_id, self.ended, "".join(self._begun) or self._text, list(self.pending))


def result_of(turn_id: str, end: Json, text: str = "", pending: Sequence[str] = ()) -> Result:
    """The result of a turn from the summary in its ``turn.ended``."""
    return Result(
        turn_id=turn_id,
        outcome=end["outcome"],
        stop_reason=end.get("stop_reason"),
        text=text,
        context=end.get("context"),
        usage=end.get("usage"),
        cost=end.get("cost"),
        duration_ms=end.get("duration_ms"),
        denied=end.get("denied") or [],
        pending=list(pending),
        error=end.get("error"),
    )


def turn_of(event: events.Event) -> str | None:
    """The turn that an event is about: one in line may be told of while another runs."""
    body = event.body
    turn_id: str | None = body.get("turn_id")
    if body["type"].startswith("turn."):
        return body["data"].get("turn_id", turn_id)  # type: ignore[no-any-return]  # a text, as above
    return turn_id


def _is_answer(item: Json) -> bool:
    return bool(item["kind"] == "message" and item["role"] == "assistant")
