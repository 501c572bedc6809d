"""The JSON that all commands share: the envelope, errors, usage, the result of a turn."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from agentctl.model import Context, Outcome

Json = dict[str, Any]


class Error(TypedDict):
    """What went wrong, and the command or step that helps. Decide on the code, never on the message."""

    code: str
    message: str
    hint: str | None
    retryable: bool
    details: Json


class Envelope(TypedDict):
    """The one object that a command with --json prints, unless it streams. The data have a schema of their own."""

    agentctl: Literal[1]
    status: Literal["ok", "error"]
    data: Any
    error: Error | None


class Cost(TypedDict):
    """What a turn or a session cost, as the agent said; source is the message that said it."""

    amount: float
    currency: str
    source: NotRequired[str]


class Tokens(TypedDict):
    """Counts that nobody told are not there. Whether cached tokens are among the input tokens is the agent's way."""

    input_tokens: NotRequired[int]
    output_tokens: NotRequired[int]
    cached_read_tokens: NotRequired[int]
    cached_write_tokens: NotRequired[int]
    thought_tokens: NotRequired[int]
    total_tokens: NotRequired[int]


class ModelTokens(Tokens):
    model: str


class Usage(Tokens):
    """What an agent told of a turn; source is the message that said it. The context is how full its window is."""

    source: str
    models: NotRequired[list[ModelTokens]]
    context_used: NotRequired[int]
    context_size: NotRequired[int]


class UsageOfTurns(Usage):
    """The sums of those turns whose agents told tokens, and how many turns they are not of."""

    turns: int
    turns_unknown: int


class Denied(TypedDict):
    """A request that was rejected, and by whom."""

    permission_id: str
    action: str
    by: str


class TurnSummary(TypedDict):
    """How a turn ended. Usage and cost are null, never 0, where the agent reported none."""

    outcome: Outcome
    stop_reason: str | None
    context: Context | None
    usage: Usage | None
    cost: Cost | None
    duration_ms: int | None
    denied: list[Denied]
    error: Error | None


class Result(TurnSummary):
    """The last line of every stream of a turn, and the data of send-message. The ids are null when nothing ran."""

    type: Literal["result"]
    session_id: str | None
    session: str | None
    turn_id: str | None
    text: str
    pending: list[str]
    interrupted: list[str]
