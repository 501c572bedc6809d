"""The shapes of all that agentctl prints as JSON, as Python types; ``agentctl schema`` publishes them as JSON Schema.

A command's data are under its words (``sessions-get``), or those of a variant that prints something else
(``run-detach``). Where a command prints a line of JSON for each thing that happens, the schema is that of a line.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def names() -> list[str]:
    """All that have a schema."""
    return [*_general(), *sorted({**commands(), **lines()})]


def schema(name: str) -> Json:
    """The JSON Schema of one. Raise ``KeyError``."""
    from agentctl.schemas import events
    from agentctl.schemas.json_schema import document

    hint = {**_general(), **commands(), **lines()}[name]
    variants = {events.Event: events.EVENTS, events.SandboxEvent: events.SANDBOX_EVENTS}
    return document(_title(name), hint, variants)


def commands() -> dict[str, Any]:
    """The types of what is in the envelope's data."""
    from agentctl.schemas import agents, sandboxes, sessions, storage, upkeep

    return {k: v for module in (agents, sandboxes, sessions, storage, upkeep) for k, v in module.COMMANDS.items()}


def lines() -> dict[str, Any]:
    """The types of a line of what streams."""
    from agentctl.schemas import sandboxes, sessions

    return {**sessions.LINES, **sandboxes.LINES}


def _general() -> dict[str, Any]:
    from agentctl.schemas import common, events

    return {"envelope": common.Envelope, "error": common.Error, "event": events.Event, "result": common.Result}


def _title(name: str) -> str:
    if name in _general():
        return name
    return f"{'A line' if name in lines() else 'The data'} of agentctl {name} --json"
