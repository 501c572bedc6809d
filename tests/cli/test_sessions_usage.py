"""``sessions usage``: what turns used and cost, grouped; what no agent told is a dash, and never 0."""

from __future__ import annotations

import time

from agentctl.model import Session, SessionSpec, Turn
from agentctl.ops.app import App
from agentctl.ops.usage import total
from tests.cli.running import agentctl


def turn(session, number, *, usage=None, cost=None, ended_at=None, outcome="completed", **result):
    result = {"outcome": outcome, "duration_ms": 5, "usage": usage, "cost": cost, **result}
    at = 1.7e9 + number if ended_at is None else ended_at
    of = {"session_id": session, "status": "ended", "created_at": at, "ended_at": at, "outcome": outcome}
    return Turn(id=f"trn_{number}", result=result, **of)


def dollars(amount):
    return {"amount": amount, "currency": "USD", "source": "usage_update"}


def test_unknown_turns_are_counted_and_not_added():
    asked = {"input_tokens": 5, "source": "prompt_response", "context_used": 9, "context_size": 10}
    turns = [
        turn("s", 1, usage=asked, cost=dollars(0.1)),
        turn("s", 2, usage={"inputTokens": 3, "outputTokens": 2, "source": "old"}, cost=dollars(0.2)),  # as once told
        turn("s", 3, usage={"source": "usage_update", "context_used": 10, "context_size": 10}),
        turn("s", 4),
        turn("s", 5, outcome="interrupted", duration_ms=None),
        turn("s", 6, outcome="cancelled", duration_ms=None),  # it never began
    ]
    sources = "old, prompt_response, usage_update"
    counts = {"input_tokens": 8, "output_tokens": 2, "context_used": 10, "context_size": 10, "source": sources}
    assert total(turns) == ({**counts, "turns": 2, "turns_unknown": 3}, dollars(0.3))
    assert total(turns[3:]) == (None, None)
    assert total([]) == (None, None)


def test_usage_is_grouped_and_limited_to_what_is_recent():
    with App.open() as app:
        for name, agent in (("one", "claude"), ("two", "pi")):
            spec = SessionSpec(agent=agent, provider="docker")
            app.store.add_session(
                Session(id=f"ses_{name}", name=name, spec=spec, status="new", created_at=1.7e9, updated_at=1.7e9)
            )
        asked = {"input_tokens": 1500, "output_tokens": 2, "source": "prompt_response"}
        app.store.put_turn(turn("ses_one", 1, usage=asked, cost=dollars(0.004)))
        app.store.put_turn(turn("ses_one", 2, usage=asked, cost=dollars(1.5), ended_at=time.time()))
        app.store.put_turn(turn("ses_two", 3))
    header, *rows = (line.split("\t") for line in agentctl("sessions", "usage").out.splitlines())
    assert header == ["SESSION", "TURNS", "IN", "OUT", "CACHED", "COST", "TOLD BY"]
    assert rows == [
        ["two", "1", "-", "-", "-", "-", "-"],
        ["one", "2", "3,000", "4", "-", "1.50 USD", "prompt_response"],
        ["total", "3", "3,000", "4", "-", "1.50 USD", "prompt_response"],
    ]
    assert "Of one turn no agent told the tokens." in agentctl("sessions", "usage").err
    by_turn = agentctl("sessions", "usage", "one", "--by", "turn", "--since", "1h", "--json").data
    assert [(row["key"], row["cost"]["amount"]) for row in by_turn["rows"]] == [("trn_2", 1.5)]
    keys = {by: agentctl("sessions", "usage", "-q", "--by", by).out.split() for by in ("agent", "provider", "day")}
    assert (keys["agent"], keys["provider"]) == (["pi", "claude"], ["docker"])
    assert keys["day"] == sorted(keys["day"])
    assert agentctl("sessions", "usage", "--by", "moon").code == 2
    assert agentctl("sessions", "usage", "three").code == 4


def test_a_session_costs_what_all_its_turns_cost(session):
    for told in ("@cost=0.25", "@usage=none", "@cost=0.75"):
        done = agentctl("sessions", "send", session, told)
    assert "0.50 USD" in done.err
    shown = agentctl("sessions", "get", session, "--json").data
    assert shown["cost"] == dollars(0.75)
    assert (shown["usage"]["turns"], shown["usage"]["turns_unknown"]) == (2, 1)
    assert agentctl("sessions", "list").out.splitlines()[1].split("\t")[5] == "0.75 USD"
