"""What a request and an answer must look like, as the generated clients in the installed wheels say it.

They are read, not copied: ``_<operation>_serialize`` holds method, path and query names; ``_response_types_map`` the
models of the answers; the models themselves what may and must be in them.
"""

from __future__ import annotations

import enum
import functools
import json
import re
from dataclasses import dataclass, field
from importlib import import_module, util
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

API = ("daytona_api_client_async", ("sandbox_api", "volumes_api", "snapshots_api", "config_api", "object_storage_api"))
TOOLBOX = ("daytona_toolbox_api_client_async", ("process_api", "file_system_api", "info_api"))
_UNDECLARED = (401, 403, 408, 409, 429, 500, 502, 503, 504)
"""The errors that any operation may end with; the documents do not list them."""


@dataclass(frozen=True)
class Operation:
    package: str
    name: str
    method: str
    path: re.Pattern[str]
    queries: frozenset[str]
    body: str | None
    answers: dict[int, str | None] = field(hash=False)


@functools.cache
def operations(package: str, modules: tuple[str, ...]) -> tuple[Operation, ...]:
    found = [op for module in modules for op in _of_module(package, module)]
    # A path without parameters is meant before one that would take its last word for a parameter.
    return tuple(sorted(found, key=lambda op: op.path.pattern.count("[^/]+")))


def _of_module(package: str, module: str) -> list[Operation]:
    spec = util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "api" / f"{module}.py").read_text()
    chunks = re.split(r"\n    def _(\w+)_serialize\(", text)
    return [_operation(package, name, chunk, text) for name, chunk in zip(chunks[1::2], chunks[2::2], strict=True)]


def _operation(package: str, name: str, chunk: str, text: str) -> Operation:
    path = re.search(r"resource_path='([^']*)'", chunk)
    method = re.search(r"method='(\w+)'", chunk)
    assert path is not None
    assert method is not None
    public = text[text.index(f"async def {name}(") :]
    types = re.search(r"_response_types_map[^{]*\{([^}]*)\}", public)
    assert types is not None
    answers = {int(status): model for status, model in re.findall(r"'(\d+)': (?:\"([^\"]*)\"|None)", types[1])}
    body = re.search(r"_body_params = (?!None)(\w+)", chunk)
    pattern = "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\w+\})", path[1]))
    return Operation(
        package=package,
        name=name,
        method=method[1],
        path=re.compile(pattern),
        queries=frozenset(re.findall(r"_query_params\.append\(\s*\(\s*'(\w+)'", chunk)),
        body=_body_model(body[1], public) if body else None,
        answers={status: model or None for status, model in answers.items()},
    )


def _body_model(parameter: str, public: str) -> str | None:
    """The annotation of that parameter: ``X``, ``Annotated[X, …]`` or ``Optional[X]``."""
    annotated = re.search(rf"\n        {parameter}: ([^\n]*)", public)
    assert annotated is not None
    return next((n for n in re.findall(r"\w+", annotated[1]) if n not in ("Annotated", "Optional", "Union")), None)


def find(ops: tuple[Operation, ...], method: str, path: str) -> Operation | None:
    return next((op for op in ops if op.method == method and op.path.fullmatch(path)), None)


def request_faults(op: Operation, queries: set[str], content_type: str, body: bytes) -> list[str]:
    faults = [f"{op.name}: unknown query {name}" for name in sorted(queries - op.queries)]
    if op.body is not None and content_type.startswith("application/json"):
        faults += [f"{op.name} request: {fault}" for fault in model_faults(op.package, op.body, json.loads(body))]
    return faults


def answer_faults(op: Operation, status: int, content_type: str, body: bytes) -> list[str]:
    if status not in op.answers:
        return [] if status in _UNDECLARED or status in (400, 404, 410) else [f"{op.name}: undeclared status {status}"]
    model = op.answers[status]
    if model is None or not content_type.startswith("application/json"):
        return []
    return [f"{op.name} answer: {fault}" for fault in model_faults(op.package, model, json.loads(body))]


def model_faults(package: str, name: str, data: Any) -> list[str]:
    """What is wrong with ``data`` as that model: a missing or wrong member, one that is not declared, an unknown word
    where only some are known (the models themselves take any)."""
    listed = re.fullmatch(r"List\[(\w+)\]", name)
    if listed:
        if not isinstance(data, list):
            return ["is not a list"]
        return [fault for item in data for fault in model_faults(package, listed[1], item)]
    model = getattr(import_module(f"{package}.models"), name, None)
    if model is None or not issubclass(model, BaseModel):
        return []
    try:
        return _undeclared(model.from_dict(data))  # type: ignore[attr-defined]
    except (ValidationError, ValueError, AttributeError) as e:
        return [f"{name}: {e}"]


def _undeclared(value: Any) -> list[str]:
    if isinstance(value, BaseModel):
        extra = getattr(value, "additional_properties", None) or {}
        own = [f"{type(value).__name__} has no {key}" for key in extra]
        return own + [fault for key in type(value).model_fields for fault in _undeclared(getattr(value, key))]
    if isinstance(value, list):
        return [fault for item in value for fault in _undeclared(item)]
    if isinstance(value, enum.Enum) and value.value == "unknown_default_open_api":
        return [f"{type(value).__name__}: unknown word"]
    return []
