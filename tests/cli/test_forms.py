"""Questions are flat JSON Schema forms, answered a line a field."""

import pytest

from agentctl.cli.forms import fields_of


def _field(schema, *, required=True):
    [field] = fields_of({"properties": {"f": schema}, "required": ["f"] if required else []})
    return field


@pytest.mark.parametrize(
    ("schema", "typed", "value"),
    [
        ({"type": "string"}, "hello", "hello"),
        ({"type": "string", "default": "d"}, "", "d"),
        ({"type": "string", "enum": ["a", "b"]}, "2", "b"),
        ({"type": "string", "enum": ["a", "b"]}, "A", "a"),
        ({"type": "string", "oneOf": [{"const": "x", "title": "The X"}]}, "the x", "x"),
        ({"type": "integer"}, "3", 3),
        ({"type": "number"}, "3.5", 3.5),
        ({"type": "boolean"}, "y", True),
        ({"type": "boolean"}, "no", False),
        ({"type": "array", "items": {"type": "string", "enum": ["a", "b", "c"]}}, "1, c", ["a", "c"]),
        ({"type": "array", "items": {"anyOf": [{"const": "x", "title": "X"}]}}, "1", ["x"]),
    ],
)
def test_a_line_becomes_a_value(schema, typed, value):
    assert _field(schema).read(typed) == (value, None)


@pytest.mark.parametrize(
    ("schema", "typed"),
    [
        ({"type": "string"}, ""),
        ({"type": "string", "minLength": 3}, "ab"),
        ({"type": "string", "maxLength": 3}, "abcd"),
        ({"type": "string", "pattern": "^[0-9]+$"}, "x"),
        ({"type": "string", "enum": ["a", "b"]}, "3"),
        ({"type": "integer"}, "3.5"),
        ({"type": "integer", "minimum": 3}, "2"),
        ({"type": "number", "maximum": 3}, "4"),
        ({"type": "boolean"}, "maybe"),
        ({"type": "array", "minItems": 2, "items": {"enum": ["a", "b"]}}, "1"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "1,9"),
    ],
)
def test_a_wrong_line_is_explained(schema, typed):
    value, wrong = _field(schema).read(typed)
    assert value is None
    assert wrong


def test_an_optional_field_may_stay_empty():
    field = _field({"type": "string"}, required=False)
    assert field.read("") == (None, None)
    assert "may stay empty" in field.label


def test_titles_and_choices_cannot_drive_the_terminal():
    field = _field(
        {"title": "\x1b[2Jtitle", "description": "a\x1b]0;x\x07b", "enum": ["\x1b[31mred"], "type": "string"}
    )
    assert "\x1b" not in field.label + "".join(field.help)
