"""Dataclasses to rows and back: one column per field, in the order of the fields; dicts travel as JSON text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from agentctl.model import Request, Sandbox, Session, SessionSpec, Turn, UserAgent, Volume

Row = TypeVar("Row", Session, Sandbox, Turn, Request, Volume, UserAgent)

TABLES: dict[type[Any], str] = {
    Session: "sessions",
    Sandbox: "sandboxes",
    Turn: "turns",
    Request: "requests",
    Volume: "volumes",
    UserAgent: "user_agents",
}
_JSON = frozenset({"usage", "cost", "handle", "labels", "result", "data", "resolution", "settings", "error"})


def columns(cls: type[Any]) -> tuple[str, ...]:
    """The names of the table's columns, which are those of the dataclass's fields."""
    return tuple(cls.__dataclass_fields__)


def select(cls: type[Any], rest: str = "") -> str:
    """``SELECT`` of all columns of ``cls`` in the order that ``decode`` wants."""
    return f"SELECT {', '.join(columns(cls))} FROM {TABLES[cls]} {rest}"  # noqa: S608 - names from our own classes


def upsert(cls: type[Any], key: Sequence[str]) -> str:
    """Insert, or set every other column where ``key`` is there already. Parameters are those of ``encode``."""
    names = columns(cls)
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
    return f"{insert(cls)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"


def insert(cls: type[Any]) -> str:
    """A plain ``INSERT``. Parameters are those of ``encode``."""
    names = columns(cls)
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {TABLES[cls]} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - the same


def encode(row: Any) -> tuple[Any, ...]:
    """The column values of a dataclass."""
    return tuple(encode_value(getattr(row, name)) for name in columns(type(row)))


def encode_value(value: Any) -> Any:
    """One field as a column value."""
    if isinstance(value, SessionSpec):
        value = value.to_json()
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, str) and (not value.isascii() or "\0" in value):
        # An agent's title may hold half a surrogate pair, which no database takes, or a NUL, which Postgres does not.
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return int(value) if isinstance(value, bool) else value


def decode(cls: type[Row], values: Sequence[Any]) -> Row:
    """The dataclass of one row that ``select`` gave."""
    fields = dict(zip(cls.__dataclass_fields__, values, strict=True))
    if cls is Session:
        fields["spec"] = _spec(fields["spec"])
        fields["ephemeral"] = bool(fields["ephemeral"])
    elif cls is Sandbox and fields["spec"] is not None:
        fields["spec"] = _spec(fields["spec"])
    elif cls is Volume:
        fields["unasked"] = bool(fields["unasked"])
    for name in _JSON & fields.keys():
        text = fields[name]
        if text is not None:
            fields[name] = json.loads(text)
    return cls(**fields)


@lru_cache(maxsize=256)
def _spec(text: str) -> SessionSpec:
    """A list of many sessions has few different specs, and reading one costs more than all the rest of its row."""
    return SessionSpec.from_json(json.loads(text))
