"""One turn: a prompt to the agent and all that follows, until it is ended for one reason and told as one outcome."""

from __future__ import annotations

import asyncio
import time
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal, cast

from agentctl import errors, ids
from agentctl.frozen import frozen
from agentctl.supervisor.log.records import without_surrogates
from agentctl.supervisor.outcome import EndedBy, TurnFacts
from agentctl.supervisor.session_request import on_lost_of

if TYPE_CHECKING:
    from agentctl.model import OnLost

Json = dict[str, Any]
WhenBusy = Literal["fail", "queue", "interrupt"]


@frozen
class Message:
    """What a caller sends. ``blocks`` are the ACP content blocks of the prompt. ``stall_timeout_s`` None is the
    session's, 0 never."""

    turn_id: str
    text: str
    attachments: list[Json] = field(default_factory=list)
    timeout_s: float | None = None
    in_line_s: float | None = None
    request_timeout_s: float | None = None
    accept_denials: bool = False
    permissions: str | None = None
    on_lost: OnLost | None = None
    stall_timeout_s: float | None = None
    when_busy: WhenBusy = "fail"

    @property
    def blocks(self) -> list[Json]:
        text: list[Json] = [{"type": "text", "text": self.text}] if self.text else []
        return [*text, *self.attachments]

    @classmethod
    def from_json(cls, body: Json) -> Message:
        """Read a Message of ``wire.py``. Raise ``UsageError`` for an empty one or a field of the wrong type."""
        text = body.get("message", "")
        attachments = body.get("attachments") or []
        if not isinstance(text, str) or not isinstance(attachments, list):
            raise errors.UsageError("message must be a text and attachments a list.")
        if not all(isinstance(block, dict) and isinstance(block.get("type"), str) for block in attachments):
            raise errors.UsageError("Every attachment must be an ACP content block.")
        if not text.strip() and not attachments:
            raise errors.UsageError("The message is empty.")
        return cls(
            turn_id=_word(body, "turnId") or ids.new_id("trn"),
            text=without_surrogates(text),
            attachments=attachments,
            timeout_s=_seconds(body, "timeoutS"),
            in_line_s=_seconds(body, "inLineS"),
            request_timeout_s=_seconds(body, "requestTimeoutS"),
            accept_denials=bool(body.get("acceptDenials")),
            permissions=_word(body, "permissionMode"),
            on_lost=on_lost_of(_word(body, "onLost")),
            stall_timeout_s=_seconds(body, "stallTimeoutS", or_zero=True),
            when_busy=_when_busy(_word(body, "whenBusy")),
        )

    def to_json(self) -> Json:
        """The Message of ``wire.py`` that ``from_json`` makes this one of."""
        said = {
            "turnId": self.turn_id,
            "message": self.text,
            "attachments": self.attachments or None,
            "timeoutS": self.timeout_s,
            "inLineS": self.in_line_s,
            "requestTimeoutS": self.request_timeout_s,
            "stallTimeoutS": self.stall_timeout_s,
            "acceptDenials": self.accept_denials or None,
            "permissionMode": self.permissions,
            "onLost": self.on_lost,
            "whenBusy": self.when_busy,
        }
        return {key: value for key, value in said.items() if value is not None}


def _word(body: Json, key: str) -> str | None:
    """A value that names something: up to 200 printable characters."""
    value = body.get(key)
    if value is None or (isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()):
        return value
    raise errors.UsageError(f"{key} must be a text of 1 to 200 printable characters.")


def _seconds(body: Json, key: str, *, or_zero: bool = False) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (value > 0 or (or_zero and value == 0)):
        raise errors.UsageError(f"{key} must be a number of seconds above 0{', or 0 for never' if or_zero else ''}.")
    return float(value)


def _when_busy(word: str | None) -> WhenBusy:
    if word in (None, "fail", "queue", "interrupt"):
        return cast("WhenBusy", word or "fail")
    raise errors.UsageError(f"whenBusy is one of fail, queue, interrupt, not {word!r}.")


class Turn:
    """A turn while it runs. ``task`` is the coroutine that prompts the agent and writes ``turn.ended``; ``prompted``
    says that the agent has heard of it, ``stalled`` that it has fallen silent over it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.facts = TurnFacts(accept_denials=message.accept_denials)
        self.started = time.monotonic()
        self.first_sequence = 0
        self.task: asyncio.Task[None] | None = None
        self.prompted = False
        self.stalled = False
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def id(self) -> str:
        return self.message.turn_id

    @property
    def duration_ms(self) -> int:
        return round((time.monotonic() - self.started) * 1000)

    def after(self, seconds: float, act: Any, *args: Any) -> None:
        """Call ``act`` later, unless the turn has ended by then."""
        self._timers.append(asyncio.get_running_loop().call_later(seconds, act, *args))

    def end_by(self, who: EndedBy) -> bool:
        """Note who asked for the end; False when somebody did before."""
        if self.facts.ended_by is not None:
            return False
        self.facts.ended_by = who
        return True

    def stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
