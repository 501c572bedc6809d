"""What the turns of a session used and cost. Agents tell a cumulative cost: a turn's is what was added to it."""

from __future__ import annotations

from typing import Any

from agentctl.acp.usage import usage_of

Json = dict[str, Any]


class Meter:
    """``usage`` and ``cost`` are what the agent told last, as it told it: of its window, and since it began to count.

    Some agents begin to count with each process (claude), some go on with what they load and tell it before the first
    prompt. So the cost counts from what is told when a process gets its first prompt.
    """

    def __init__(self) -> None:
        self.usage: Json | None = None
        self.cost: Json | None = None
        self._counted: Json | None = None
        self._is_new = True
        self._cost_told = False
        self._window: Json = {}

    def agent_started(self) -> None:
        """A new process counts anew, or tells us where it goes on."""
        self.cost = None
        self._is_new = True

    def prompted(self) -> None:
        """A turn's message goes out."""
        if self._is_new:
            self._counted, self._is_new, self._cost_told = self.cost, False, False
        self._window = {}

    def heard(self, data: Json) -> None:
        """The data of a ``usage.updated``."""
        self.usage = {**(self.usage or {}), **{k: v for k, v in data.items() if k != "cost"}}
        if _amount(data.get("cost")) is not None:
            self.cost, self._cost_told = data["cost"], True
        if isinstance(data.get("used"), int) and data["used"] > 0:
            self._window = {f"context_{key}": data[key] for key in ("used", "size") if isinstance(data.get(key), int)}

    def turn_ended(self, response: Json | None) -> tuple[Json | None, Json | None]:
        """The usage and the cost of the turn that this answer ended; None for what nobody told, never 0."""
        usage, window = usage_of(response), self._window
        if usage is None and window:
            usage = {"source": "usage_update"}
        usage = None if usage is None else {**usage, **window}
        cost = self._cost_since() if self._cost_told and not self._is_new else None
        if not self._is_new:
            self._counted, self._cost_told = self.cost, False
        self._window = {}
        return usage, cost if cost is None or cost["amount"] or usage else None

    def _cost_since(self) -> Json:
        assert self.cost is not None
        now, before = self.cost["amount"], 0
        if self._counted is not None and self._counted.get("currency") == self.cost.get("currency"):
            before = self._counted["amount"]
        amount = now - before if now >= before else now  # less than before: it began anew by itself
        return {"amount": round(amount, 6), "currency": self.cost.get("currency"), "source": "usage_update"}


def _amount(cost: Any) -> float | None:
    amount = cost.get("amount") if isinstance(cost, dict) else None
    return amount if isinstance(amount, (int, float)) else None
