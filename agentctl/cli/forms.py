"""The fields of an elicitation form (ACP: a flat JSON Schema object), and how a typed line becomes a value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from agentctl.cli.untrusted import one_line

Json = dict[str, Any]
Read = tuple[Any, str | None]
"""The value, or what is wrong."""


@dataclass(frozen=True, slots=True)
class Field:
    """One property of the form."""

    name: str
    schema: Json
    required: bool
    choices: list[tuple[str, str]] = field(default_factory=list)

    @property
    def label(self) -> str:
        title = one_line(str(self.schema.get("title") or self.name), 80)
        notes = [_kind_note(self.schema)] if not self.choices else []
        if "default" in self.schema:
            notes.append(f"empty: {one_line(str(self.schema['default']), 40)}")
        elif not self.required:
            notes.append("may stay empty")
        notes = [n for n in notes if n]
        return f"{title} ({', '.join(notes)})" if notes else title

    @property
    def help(self) -> list[str]:
        """Its description and its choices, numbered."""
        described = [one_line(str(self.schema["description"]))] if self.schema.get("description") else []
        several = ["Several may be given: 1,3"] if self.schema.get("type") == "array" else []
        return [*described, *(f"{i}. {title}" for i, (_, title) in enumerate(self.choices, 1)), *several]

    def read(self, text: str) -> Read:
        """The value of a typed line; an empty one is the default, or nothing where nothing is required."""
        text = text.strip()
        if not text:
            if "default" in self.schema:
                return self.schema["default"], None
            return None, "A value is required." if self.required else None
        match self.schema.get("type"):
            case "boolean":
                return _boolean(text)
            case "integer" | "number":
                return _number(text, self.schema)
            case "array":
                return self._several(text)
            case _:
                return self._chosen(text) if self.choices else _text(text, self.schema)

    def _chosen(self, text: str) -> Read:
        if text.isdecimal() and 1 <= int(text) <= len(self.choices):
            return self.choices[int(text) - 1][0], None
        for value, title in self.choices:
            if text.lower() in (value.lower(), title.lower()):
                return value, None
        return None, f"Give a number from 1 to {len(self.choices)}, or one of the names."

    def _several(self, text: str) -> Read:
        read = [self._chosen(part.strip()) for part in text.split(",") if part.strip()]
        wrong = next((w for _, w in read if w), None)
        if wrong:
            return None, wrong
        low, high = self.schema.get("minItems", 0), self.schema.get("maxItems", len(self.choices))
        if not low <= len(read) <= high:
            return None, f"Give {low} to {high} of them."
        return [value for value, _ in read], None


def fields_of(schema: Json) -> list[Field]:
    """The form's fields in the order of the schema."""
    required = schema.get("required") or ()
    return [
        Field(name, given, name in required, _choices(given))
        for name, given in (schema.get("properties") or {}).items()
        if isinstance(given, dict)
    ]


def _choices(schema: Json) -> list[tuple[str, str]]:
    where = schema.get("items") or {} if schema.get("type") == "array" else schema
    titled = where.get("oneOf") or where.get("anyOf") or []
    pairs = [(str(o["const"]), o.get("title") or o["const"]) for o in titled if isinstance(o, dict) and "const" in o]
    pairs = pairs or [(str(v), v) for v in where.get("enum") or []]
    return [(value, one_line(str(title), 100)) for value, title in pairs]


def _kind_note(schema: Json) -> str:
    match schema.get("type"):
        case "boolean":
            return "y or n"
        case "integer" | "number" as kind:
            bounds = [
                f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema
            ]
            return " ".join([kind, *bounds])
        case _:
            return str(schema.get("format") or "")


def _boolean(text: str) -> Read:
    if text.lower() in ("y", "yes", "true", "1", "on"):
        return True, None
    if text.lower() in ("n", "no", "false", "0", "off"):
        return False, None
    return None, "Give y or n."


def _number(text: str, schema: Json) -> Read:
    try:
        value = int(text) if schema["type"] == "integer" else float(text)
    except ValueError:
        return None, f"Give {'an' if schema['type'] == 'integer' else 'a'} {schema['type']}."
    if value < schema.get("minimum", value):
        return None, f"It is at least {schema['minimum']}."
    if value > schema.get("maximum", value):
        return None, f"It is at most {schema['maximum']}."
    return value, None


def _text(text: str, schema: Json) -> Read:
    low, high = schema.get("minLength", 0), schema.get("maxLength")
    if len(text) < low or (high is not None and len(text) > high):
        return None, f"It has {low} to {high if high is not None else 'any number of'} characters."
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not _matches(pattern, text):
        return None, f"It does not match {one_line(pattern, 80)}."
    return text, None


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True  # a pattern that Python cannot read is the agent's to check
