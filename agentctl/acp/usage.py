"""Tokens as agents tell them in the answer to a prompt, under one set of names; a 0 that means "unknown" is none.

Where they stand (measured): ``usage`` with ``inputTokens``, … in claude, codex and opencode; only
``_meta.quota.token_count`` with ``input_tokens``, … in gemini; nowhere in pi and zed's codex, which tell how full the
context window is, in ``usage_update``. A cancelled turn of claude has zeros everywhere but in
``_meta.quota.model_usage``, where its other calls to the model are, too (titles).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentctl.acp.objects import object_of

Json = dict[str, Any]

TOKENS = (
    "input_tokens",
    "output_tokens",
    "cached_read_tokens",
    "cached_write_tokens",
    "thought_tokens",
    "total_tokens",
)

_NAMES = {
    **{name: name for name in TOKENS},
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "totalTokens": "total_tokens",
    "cachedReadTokens": "cached_read_tokens",
    "cachedInputTokens": "cached_read_tokens",
    "cachedWriteTokens": "cached_write_tokens",
    "cacheWriteInputTokens": "cached_write_tokens",
    "thoughtTokens": "thought_tokens",
    "reasoningOutputTokens": "thought_tokens",
}


def tokens(told: Any) -> Json:
    """Its counts under the names of ``TOKENS``; nothing where there are none, or all are 0: no model answers for
    nothing."""
    if not isinstance(told, dict):
        return {}
    named = {_NAMES[key]: value for key, value in told.items() if key in _NAMES and _is_count(value)}
    return named if any(named.values()) else {}


def usage_of(response: Json | None) -> Json | None:
    """What the answer to a prompt tells: its tokens, where it told them as ``source``, and those of each model as
    ``models``, where it names them."""
    response = response or {}
    quota = object_of(object_of(response.get("_meta")).get("quota"))
    models = _models(quota.get("model_usage"))
    places = {
        "prompt_response": tokens(response.get("usage")),
        "prompt_response._meta.quota": tokens(quota.get("token_count")),
        "prompt_response._meta.quota.model_usage": added(models),
    }
    for source, counts in places.items():
        if counts:
            return {**counts, "source": source, **({"models": models} if models else {})}
    return None


def added(many: Iterable[Json]) -> Json:
    """The sums of all counts; a name that nobody told is not there."""
    sums: Json = {}
    for one in many:
        for name, count in tokens(one).items():
            sums[name] = sums.get(name, 0) + count
    return {name: sums[name] for name in TOKENS if name in sums}


def _models(told: Any) -> list[Json]:
    rows = [object_of(row) for row in told] if isinstance(told, list) else []
    return [{"model": str(row.get("model")), **tokens(row.get("token_count"))} for row in rows]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
