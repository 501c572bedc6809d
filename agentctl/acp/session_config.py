"""What a session is set to: config options, modes, models, title; kept from results and updates.

Source: the ACP schema v1, session config options and modes. Where an agent has ``configOptions``, they are the truth
and ``modes`` are ignored; lists are always complete and replace what was known. Malformed parts are left out.
"""

from __future__ import annotations

import difflib
from typing import Any

from agentctl.errors import UsageError

Json = dict[str, Any]


class SessionConfig:
    """State shared by ``AgentClient`` (takes results) and ``Translator`` (takes updates)."""

    def __init__(self) -> None:
        self.options: list[Json] = []
        """The agent's full ACP ``configOptions`` list, ``[]`` when it has none."""
        self.modes: Json | None = None
        """``{"currentModeId", "availableModes"}`` of agents that send it."""
        self.models: Json | None = None
        """``{"currentModelId", "availableModels"}`` of agents that still send it."""
        self.title: str | None = None

    @property
    def mode(self) -> str | None:
        """The current mode: of the config options where there are any, else of ``modes``."""
        return self._current("mode", self.modes, "currentModeId")

    @property
    def model(self) -> str | None:
        """The current model, found the same way."""
        return self._current("model", self.models, "currentModelId")

    @property
    def thought_level(self) -> str | None:
        """The current thought level; only config options tell it."""
        return self._current("thought_level", None, "")

    def option(self, category: str) -> Json | None:
        """The first config option of a category (the agent's order is its priority), ``None`` if there is none."""
        return next((o for o in self.options if o.get("category") == category), None)

    def option_by_id(self, option_id: str) -> Json | None:
        """The config option with that id, ``None`` if there is none."""
        return next((o for o in self.options if o.get("id") == option_id), None)

    def take_result(self, result: Json) -> None:
        """Keep what a new, load, resume or set_config_option result says; what it does not mention stays."""
        if isinstance(result.get("configOptions"), list):
            self.take_options(result["configOptions"])
        if isinstance(result.get("modes"), dict):
            self.modes = result["modes"]
        if isinstance(result.get("models"), dict):
            self.models = result["models"]

    def take_options(self, options: list[Any]) -> None:
        """Replace the list of config options."""
        self.options = [o for o in options if isinstance(o, dict) and isinstance(o.get("id"), str)]

    def take_mode(self, mode: str) -> None:
        """The agent switched its mode by itself, or took ours without answering a list."""
        self.modes = {**(self.modes or {"availableModes": []}), "currentModeId": mode}
        option = self.option("mode")
        if option and mode in values_of(option):
            self.options = [{**o, "currentValue": mode} if o is option else o for o in self.options]

    def take_model(self, model: str) -> None:
        """The agent took our model without answering a list."""
        self.models = {**(self.models or {"availableModels": []}), "currentModelId": model}

    def _current(self, category: str, fallback: Json | None, key: str) -> str | None:
        option = self.option(category) or {}
        value = option.get("currentValue") if self.options else (fallback or {}).get(key)
        return value if isinstance(value, str) else None


def choices_of(option: Json) -> dict[str, str]:
    """The values of a select option and their names, flat or grouped, in the agent's order."""
    found: dict[str, str] = {}
    for entry in _dicts(option.get("options")):
        for choice in _dicts(entry.get("options")) if "options" in entry else [entry]:
            if isinstance(choice.get("value"), str):
                found[choice["value"]] = str(choice.get("name", choice["value"]))
    return found


def values_of(option: Json) -> list[str]:
    """The values of a select option."""
    return list(choices_of(option))


def match_choice(value: str, choices: dict[str, str], what: str) -> str:
    """The choice that ``value`` means: exactly, else without regard to case, else by its display name.

    Raises ``UsageError`` with the nearest values; ``what`` names the thing in the message: ``"model of codex"``.
    """
    if value in choices:
        return value
    folded = value.casefold()
    for texts in ([(v, v) for v in choices], list(choices.items())):
        same = [v for v, text in texts if text.casefold() == folded]
        if len(same) == 1:
            return same[0]
    near = difflib.get_close_matches(folded, [v.casefold() for v in choices], n=3, cutoff=0.5)
    nearest = [v for v in choices if v.casefold() in near]
    raise UsageError(
        f"{value!r} is no {what}",
        hint=f"did you mean {' or '.join(nearest)}?" if nearest else f"choose one of {', '.join(choices) or 'none'}",
        details={"value": value, "choices": list(choices), "nearest": nearest},
    )


def _dicts(value: Any) -> list[Json]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
