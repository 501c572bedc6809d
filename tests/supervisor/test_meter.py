"""What a turn used and cost, from every place where an agent tells it, and never 0 for what nobody told."""

from __future__ import annotations

from typing import Any

import pytest

from agentctl.acp.translate import Translator
from agentctl.supervisor.meter import Meter
from tests.acp.support import TRACES, read_trace


def cost(amount: float, currency: str = "USD") -> dict[str, Any]:
    return {"cost": {"amount": amount, "currency": currency}, "source": "usage_update"}


def turn(meter, *heard, response=None):
    meter.prompted()
    for data in heard:
        meter.heard(data)
    return meter.turn_ended(response)


def test_tokens_have_the_same_names_wherever_they_stand():
    window = {"used": 120, "size": 200, "source": "usage_update"}
    told = {"totalTokens": 120, "inputTokens": 100, "outputTokens": 20, "cachedReadTokens": 7, "thoughtTokens": 0}
    usage, _ = turn(Meter(), window, response={"usage": told})
    counts = {"total_tokens": 120, "input_tokens": 100, "output_tokens": 20, "cached_read_tokens": 7}
    assert usage == {
        **counts,
        "thought_tokens": 0,
        "source": "prompt_response",
        "context_used": 120,
        "context_size": 200,
    }
    quota = {"token_count": {"input_tokens": 1}, "model_usage": [{"model": "m", "token_count": {"input_tokens": 1}}]}
    usage, _ = turn(Meter(), response={"_meta": {"quota": quota}})
    models = [{"model": "m", "input_tokens": 1}]
    assert usage == {"input_tokens": 1, "source": "prompt_response._meta.quota", "models": models}
    assert turn(Meter(), window)[0] == {"source": "usage_update", "context_used": 120, "context_size": 200}


@pytest.mark.parametrize(
    "response",
    [
        *(None, {}, {"usage": None}, {"usage": {}}, {"usage": "many"}, {"usage": {"inputTokens": 0, "totalTokens": 0}}),
        *({"_meta": {"quota": 1}}, {"_meta": None}, {"_meta": {"quota": {"token_count": None, "model_usage": [1]}}}),
        {"usage": {"inputTokens": True, "outputTokens": "1", "totalTokens": -1}},
    ],
)
def test_what_nobody_told_is_unknown_and_not_0(response):
    assert turn(Meter(), {"used": 0, "size": 10, **cost(0)}, response=response) == (None, None)


def test_a_turn_costs_what_was_added_since_the_last():
    meter, some = Meter(), {"usage": {"inputTokens": 1}}
    assert turn(meter, cost(0.1), cost(0.25), response=some)[1] == {
        "amount": 0.25,
        "currency": "USD",
        "source": "usage_update",
    }
    assert turn(meter, response=some)[1] is None  # nothing was told: that is not 0
    meter.heard(cost(0.3))  # after the answer: it goes to the next turn rather than to none
    assert turn(meter, cost(0.5), response=some)[1]["amount"] == 0.25
    assert turn(meter, cost(0.5), response=some)[1]["amount"] == 0  # it was told, and tokens, too: so it was free
    assert turn(meter, cost(0.2), response=some)[1]["amount"] == 0.2  # it began anew by itself
    assert turn(meter, cost(9, "EUR"), response=some)[1] == {"amount": 9, "currency": "EUR", "source": "usage_update"}


def test_a_new_process_begins_at_nothing_or_at_what_it_says_it_loaded():
    meter, some = Meter(), {"usage": {"inputTokens": 1}}
    turn(meter, cost(0.5), response=some)
    meter.agent_started()
    assert turn(meter, cost(0.8), response=some)[1]["amount"] == 0.8
    meter.agent_started()
    meter.heard(cost(0.8))
    assert turn(meter, cost(0.9), response=some)[1]["amount"] == 0.1
    meter.agent_started()
    meter.heard(cost(0.9))
    assert meter.turn_ended(None) == (None, None)  # it ended before it was prompted


TOLD_BY = {
    "claude": ("prompt_response", 100, 120, 0.0016),
    "codex": ("prompt_response", 100, 120, None),
    "codexzed": ("usage_update", None, 120, None),
    "opencode": ("prompt_response", 100, 100, 0),
    "gemini": ("prompt_response._meta.quota", 100, None, None),
    "pi": ("usage_update", None, 120, None),
}


@pytest.mark.skipif(not TRACES.is_dir(), reason="the recorded traces lie beside the checkout")
@pytest.mark.parametrize("agent", TOLD_BY)
def test_what_each_real_agent_tells_is_found(agent):
    [(usage, cost)] = turns_of(agent, "canon-text")
    source, sent, used, amount = TOLD_BY[agent]
    assert (usage["source"], usage.get("input_tokens"), usage.get("context_used")) == (source, sent, used)
    assert (cost["amount"] if cost else None) == amount


@pytest.mark.skipif(not TRACES.is_dir(), reason="the recorded traces lie beside the checkout")
def test_real_turns_that_follow_one_another_or_are_cancelled_are_told_apart():
    first, second = (cost["amount"] for _, cost in turns_of("claude", "canon-load-1"))
    assert (first, second) == (0.0016, 0.0016)  # it tells 0.0016 and 0.0032
    [(_, after_load)] = turns_of("claude", "canon-load-2")
    assert after_load["amount"] == 0.0008
    [(usage, cost)] = turns_of("claude", "canon-cancel")
    assert (usage["source"], usage["input_tokens"]) == ("prompt_response._meta.quota.model_usage", 100)
    assert cost["amount"] == 0.0008
    for agent in ("codex", "opencode", "gemini", "codexzed"):
        assert turns_of(agent, "canon-cancel") == [(None, None)]


def turns_of(agent, name):
    """What each turn of a recorded conversation used and cost."""
    meter, translator, asked, turns = Meter(), Translator(), None, []
    for direction, frame in read_trace(TRACES / agent / f"{name}.jsonl"):
        if direction == "c2a" and frame.get("method") == "session/prompt":
            asked = frame["id"]
            meter.prompted()
        elif direction == "a2c" and frame.get("method") == "session/update":
            for draft in translator.notification(frame, None):
                if draft.type == "usage.updated":
                    meter.heard(draft.data)
        elif direction == "a2c" and "method" not in frame and frame["id"] == asked:
            turns.append(meter.turn_ended(frame.get("result")))
            asked = None
    return turns
