"""What turns used and cost together, as far as agents told it; what they did not tell is counted, never taken for 0."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from agentctl.acp.usage import added

if TYPE_CHECKING:
    from agentctl.model import Session, Turn
    from agentctl.ops.app import App

Json = dict[str, Any]
By = Literal["session", "turn", "agent", "provider", "day"]

_KEYS: dict[str, Callable[[Session, Turn], str]] = {
    "session": lambda session, turn: session.name,
    "turn": lambda session, turn: turn.id,
    "agent": lambda session, turn: session.spec.user_agent or session.spec.agent,
    "provider": lambda session, turn: session.spec.provider,
    "day": lambda session, turn: time.strftime("%Y-%m-%d", time.localtime(turn.ended_at)),
}


def total(turns: Iterable[Turn]) -> tuple[Json | None, Json | None]:
    """The usage and the cost of turns together, in the order given; None where no turn told any.

    The usage names all places where it was told in ``source``, says of how many turns it is (``turns``) and of how many
    it is not (``turns_unknown``), and has the ``context_used`` and ``context_size`` that were told last.
    """
    ran = [turn.result or {} for turn in turns if _ran(turn)]
    told = [result["usage"] for result in ran if result.get("usage")]
    if not told:
        return None, _cost(ran)
    window = next(({k: u[k] for k in ("context_used", "context_size") if k in u} for u in told[::-1]), {})
    source = ", ".join(sorted({str(usage.get("source")) for usage in told}))
    counted = [usage for usage in told if added([usage])]
    unknown = len(ran) - len(counted)
    return {**added(counted), **window, "source": source, "turns": len(counted), "turns_unknown": unknown}, _cost(ran)


def _ran(turn: Turn) -> bool:
    """Whether it ended, and was not taken out of the line before it began."""
    ended = turn.result or {}
    return turn.status == "ended" and (ended.get("duration_ms") is not None or turn.outcome == "interrupted")


def _cost(results: list[Json]) -> Json | None:
    """In the currency that was told last; nobody was seen to change it."""
    told = [result["cost"] for result in results if result.get("cost")]
    if not told:
        return None
    amount = sum(cost["amount"] for cost in told if cost.get("currency") == told[-1].get("currency"))
    source = ", ".join(sorted({str(cost["source"]) for cost in told if cost.get("source")}))
    return {"amount": round(amount, 6), "currency": told[-1].get("currency"), **({"source": source} if source else {})}


async def grouped(app: App, refs: Iterable[str], by: By, since: float | None = None) -> tuple[list[Json], Json]:
    """``(rows, total)`` of the sessions named, or of all that there are: ``{"key", "turns", "usage", "cost"}`` for each
    group, the latest last; ``since`` leaves out turns that ended before. Raise ``SessionNotFound``."""
    from agentctl.ops import mirror, sessions

    chosen = [await mirror.from_volume(app, app.store.session(ref)) for ref in refs]
    groups: dict[str, list[Turn]] = {}
    found = chosen or await sessions.listing(app, limit=None)
    turns = [(session, turn) for session in found for turn in app.store.turns(session.id) if _ran(turn)]
    for session, turn in sorted(turns, key=lambda pair: pair[1].ended_at or 0):
        if since is None or (turn.ended_at or 0) >= since:
            groups.setdefault(_KEYS[by](session, turn), []).append(turn)
    latest_last = sorted(groups.items(), key=lambda pair: pair[1][-1].ended_at or 0)
    rows = [{"key": key, **_row(group)} for key, group in latest_last]
    return rows, _row([turn for group in groups.values() for turn in group])


def _row(turns: list[Turn]) -> Json:
    usage, cost = total(turns)
    return {"turns": len(turns), "usage": usage, "cost": cost}
