"""What a turn came to. A stop reason is not an outcome: agents report ``end_turn`` after API errors and after denials.

``TurnFacts`` gathers what was seen while the turn ran; ``judge`` turns it into the ``TurnSummary`` of ``events.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from agentctl import errors
from agentctl.wire import Recipe

Json = dict[str, Any]
_DENIED_HINT = "Allow it beforehand with --permissions or --policy, or let denials pass with --accept-denials."
EndedBy = Literal["user", "timeout", "stall"]


@dataclass(eq=False, repr=False, kw_only=True)  # what it has not need not be compiled at every start
class TurnFacts:
    """``ended_by`` is who asked for the end (None: the agent ended by itself). ``denied`` has one entry per rejected
    request with ``by``: ``policy``, ``timeout`` (nobody answered, also when the turn's own time ran out) or ``user``.
    ``thread_status`` is codex's own word."""

    response: Json | None = None
    error: errors.AgentctlError | None = None
    ended_by: EndedBy | None = None
    denied: list[Json] = field(default_factory=list)
    accept_denials: bool = False
    said_text: list[str] = field(default_factory=list)
    used_tools: bool = False
    thread_status: str | None = None
    thread_error: Json | None = None


def judge(facts: TurnFacts, recipe: Recipe) -> Json:
    """``{"outcome", "stop_reason", "error", "denied"}``, the part of a TurnSummary that needs judgement."""
    outcome, error = _outcome(facts, recipe)
    return {
        "outcome": outcome,
        "stop_reason": (facts.response or {}).get("stopReason"),
        "error": error.to_json() if error else None,
        "denied": facts.denied,
    }


def _outcome(facts: TurnFacts, recipe: Recipe) -> tuple[str, errors.AgentctlError | None]:
    unanswered = any(d["by"] == "timeout" for d in facts.denied)
    if facts.ended_by == "timeout" and not (unanswered and not facts.accept_denials):
        said = "The turn reached its time limit and was ended."
        return "timeout", errors.DeadlineExceeded(said, hint="A longer --timeout gives it more time.")
    if facts.ended_by == "stall":
        return "timeout", errors.TurnStalled("The agent fell silent and the turn was ended.")
    if facts.ended_by == "user":
        return "cancelled", None
    if not facts.accept_denials and any(d["by"] != "user" for d in facts.denied):
        then = {"agent_error": facts.error.to_json()} if facts.error is not None else {}
        return "denied", errors.PermissionDenied(_denied_text(facts.denied), hint=_DENIED_HINT, details=then)
    if facts.error is not None:
        return "failed", facts.error
    return _judge_response(facts, recipe)


def _denied_text(denied: list[Json]) -> str:
    titles = ", ".join(dict.fromkeys(str(d["action"]) for d in denied if d["by"] != "user"))
    why = "nobody answered in time" if any(d["by"] == "timeout" for d in denied) else "by policy"
    return f"Denied ({why}): {titles}"


def _judge_response(facts: TurnFacts, recipe: Recipe) -> tuple[str, errors.AgentctlError | None]:
    response = facts.response or {}
    for sign in recipe.failure_signs:
        failure = SIGNS[sign](facts, recipe)
        if failure is not None:
            return "failed", failure
    stop = response.get("stopReason")
    if stop == "refusal":
        return "refused", errors.TurnUnfinished("The agent refused.", hint="Say it in another way.")
    if stop in ("max_tokens", "max_turn_requests"):
        hint = "Where the session is kept, another message lets it go on."
        return "limit", errors.TurnUnfinished(f"The agent stopped before it was done: {stop}.", hint=hint)
    if stop == "cancelled" and not facts.denied:
        return "cancelled", None
    return "completed", None


def _session_failure(facts: TurnFacts, recipe: Recipe) -> errors.AgentctlError | None:
    """Codex says why in ``_meta.jetbrains.air.sessionFailure`` when the client declared that it can read it."""
    meta = (facts.response or {}).get("_meta") or {}
    failure = ((meta.get("jetbrains") or {}).get("air") or {}).get("sessionFailure")
    if not isinstance(failure, dict):
        return None
    title = str(failure.get("title") or "the model service failed")
    return errors.AgentError(f"{recipe.name}: {title}", details={"session_failure": failure})


def _codex_thread_status(facts: TurnFacts, recipe: Recipe) -> errors.AgentctlError | None:
    if facts.thread_status != "systemError":
        return None
    said = str((facts.thread_error or {}).get("message") or "".join(facts.said_text)).strip()
    return errors.AgentError(f"{recipe.name}: {said or 'the model call failed'}", details=facts.thread_error or {})


def _usage_null(facts: TurnFacts, recipe: Recipe) -> errors.AgentctlError | None:
    response = facts.response or {}
    if response.get("stopReason") != "end_turn" or "usage" not in response or response["usage"] is not None:
        return None
    return errors.AgentError(f"{recipe.name}: {''.join(facts.said_text).strip() or 'the model call failed'}")


def _zero_usage(facts: TurnFacts, recipe: Recipe) -> errors.AgentctlError | None:
    usage = (facts.response or {}).get("usage")
    if not isinstance(usage, dict) or usage.get("totalTokens") != 0 or facts.said_text:
        return None
    return errors.AgentError(f"{recipe.name} ended the turn without calling the model")


def _only_notices(facts: TurnFacts, recipe: Recipe) -> errors.AgentctlError | None:
    if facts.used_tools:
        return None
    text = "".join(facts.said_text)
    for pattern in recipe.notice_patterns:
        text = re.sub(pattern, "", text)
    if text.strip():
        return None
    return errors.AgentError(f"{recipe.name} ended the turn without an answer: the model call failed")


SIGNS: dict[str, Callable[[TurnFacts, Recipe], errors.AgentctlError | None]] = {
    "session_failure": _session_failure,
    "codex_thread_status": _codex_thread_status,
    "usage_null": _usage_null,
    "zero_usage": _zero_usage,
    "only_notices": _only_notices,
}
"""The detectors that a recipe's ``failure_signs`` may name."""
