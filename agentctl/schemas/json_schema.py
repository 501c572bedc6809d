"""Python types → JSON Schema, draft 2020-12: typed dicts and dataclasses, ``Literal``, unions, lists and maps.

Objects stay open: fields are added without notice, and readers ignore those that they do not know.
"""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

Json = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}


def document(title: str, hint: Any, variants: dict[type, dict[str, Any]]) -> Json:
    """The schema of one type. ``variants`` are objects whose ``type`` says what is in their ``data``."""
    definitions = _Definitions(variants)
    return {"$schema": DIALECT, "title": title, **definitions.of(hint), "$defs": definitions.made}


class _Definitions:
    """``made`` has each class that was met, by its name."""

    def __init__(self, variants: dict[type, dict[str, Any]]) -> None:
        self.made: dict[str, Json] = {}
        self._variants = variants

    def of(self, hint: Any) -> Json:
        origin, arguments = get_origin(hint), get_args(hint)
        if hint is Any:
            return {}
        if hint in _PLAIN:
            return {"type": _PLAIN[hint]}
        if origin is Literal:
            return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
        if origin in (Union, UnionType):
            return _any_of([self.of(one) for one in arguments])
        if origin in (list, tuple):
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        return self._reference(hint)

    def _reference(self, cls: type) -> Json:
        assert is_typeddict(cls) or is_dataclass(cls), cls
        if cls.__name__ not in self.made:
            self.made[cls.__name__] = {}  # it may hold itself
            self.made[cls.__name__] = self._object(cls)
        return {"$ref": f"#/$defs/{cls.__name__}"}

    def _object(self, cls: type) -> Json:
        hints = get_type_hints(cls, include_extras=True)
        optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
        said = inspect.cleandoc(cls.__doc__ or "") if is_typeddict(cls) else ""
        schema: Json = {
            **({"description": " ".join(said.split())} if said else {}),
            "type": "object",
            "properties": {n: self.of(get_args(h)[0] if n in optional else h) for n, h in hints.items()},
            "required": [name for name in hints if name not in optional],
        }
        if cls in self._variants:
            schema["allOf"] = [self._variant(kind, data) for kind, data in self._variants[cls].items()]
        return schema

    def _variant(self, kind: str, data: Any) -> Json:
        return {"if": {"properties": {"type": {"const": kind}}}, "then": {"properties": {"data": self.of(data)}}}


def _any_of(schemas: list[Json]) -> Json:
    """``{"type": ["string", "null"]}`` where that says it all."""
    if all(schema.keys() == {"type"} for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    return {"anyOf": schemas}
