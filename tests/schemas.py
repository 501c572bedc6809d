"""The published JSON Schema as tests see it: closed, so that a field that it does not tell of fails."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from agentctl import schemas
from agentctl.cli import main
from agentctl.cli.lazy import LazyGroup
from agentctl.schemas import events

MOST_LINES = 500
"""Of a long stream no more is looked at: it takes a third of a millisecond a line."""


@cache
def validator(name: str) -> Any:
    from jsonschema import Draft202012Validator

    schema = _closed(schemas.schema(name))
    for event, data in (("Event", events.EVENTS), ("SandboxEvent", events.SANDBOX_EVENTS)):
        if event in schema["$defs"]:
            schema["$defs"][event]["properties"]["type"] = {"enum": sorted(data)}
    return Draft202012Validator(schema)


def check(name: str, value: Any) -> None:
    """Fail unless ``value`` is what the schema says, and nothing more."""
    from jsonschema.exceptions import best_match

    error = best_match(validator(name).iter_errors(value))
    assert error is None, (
        f"agentctl/schemas tells something else of {name} at {error.json_path}: {error.message[:2000]}"
    )


def check_output(args: Sequence[str], out: str) -> list[str]:
    """Check all lines of JSON that the command ``args`` printed; the names of the schemas that data were held to."""
    name, held = schema_of(args), set()
    for line in out.splitlines()[:MOST_LINES]:
        value = json.loads(line)
        if "agentctl" not in value:
            check(name, value)
            assert name in schemas.lines(), f"{name} prints lines"
            held.add(name)
            continue
        check("envelope", value)
        assert (value["error"] is None) == (value["status"] == "ok")
        if value["data"] is not None and "--print-config" not in args:
            check(name, value["data"])
            held.add(name)
    return sorted(held)


def schema_of(args: Sequence[str]) -> str:
    """The name of the schema of what a command prints with these arguments."""
    name = "-".join(words_of(args))
    if name == "run" and {"--detach", "-d"} & set(args):
        return "run-detach"
    if name == "sessions-transcript" and "jsonl" in args:
        return "sessions-transcript-jsonl"
    return "sandboxes-logs-exec" if name == "sandboxes-logs" and "--exec" in args else name


def words_of(args: Sequence[str]) -> list[str]:
    """The words of the command among its arguments."""
    group: type[LazyGroup] = main.RootGroup
    words = []
    for word in args:
        word = group.aliases.get(word, word)
        if word not in group.table:
            continue
        words.append(word)
        entry = group.table[word]
        if entry.module != "main":
            break
        group = getattr(main, entry.attr)
    return words


def all_commands(group: type[LazyGroup] = main.RootGroup, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command that there is."""
    for name, entry in group.table.items():
        if entry.module == "main":
            yield from all_commands(getattr(main, entry.attr), (*words, name))
        else:
            yield (*words, name)


def _closed(schema: Any) -> Any:
    """No object may have more than its schema tells of."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if schema.get("type") == "object" and "required" in schema else {}
    return {**more, **{key: _closed(value) for key, value in schema.items()}}
