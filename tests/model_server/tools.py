"""Which of the offered tools a marker calls, and with which arguments: names come from the request's own schema."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.model_server.conversation import Json, Tool

TOOL_MARKERS = frozenset(
    {"shell", "shell_escalated", "write", "read", "edit", "call", "call_unlisted", "mcp"},
)

_SHELLS = ("bash", "exec_command", "run_shell_command", "shell_command", "shell")
_NAMES = {"write": ("write", "write_file"), "read": ("read", "read_file"), "edit": ("edit", "replace")}
_FIELDS = {"write": ("path", "content"), "read": ("path",), "edit": ("path", "old", "new")}
_MEANINGS = {
    "command": ("command", "cmd"),
    "path": ("file_path", "filepath", "path"),
    "content": ("content",),
    "old": ("old_string", "oldstring", "oldtext"),
    "new": ("new_string", "newstring", "newtext"),
}
_DUMMIES = {"number": 0, "integer": 0, "boolean": False, "array": [], "object": {}, "null": None}


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. ``arguments`` is a text for a freeform tool, else an object."""

    name: str
    arguments: Json | str
    namespace: str = ""
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:20]}")

    @property
    def freeform(self) -> bool:
        return isinstance(self.arguments, str)

    @property
    def text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


def tool_call(marker: str, argument: str, tools: list[Tool]) -> Call | None:
    """The call of one tool marker, or None when the request offers no tool for it."""
    if marker in ("shell", "shell_escalated"):
        return _shell(argument, tools, escalated=marker == "shell_escalated")
    if marker in ("call", "call_unlisted", "mcp"):
        name, _, arguments = argument.partition(" ")
        return _named(marker, name, json.loads(arguments or "{}"), tools)
    return _file(marker, argument.split("|"), tools)


def dummy(schema: Json) -> Any:
    """The smallest value a JSON schema accepts, near enough for the schemas agents send."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind.lower()
    if kind == "object":
        required = schema.get("required", ())
        return {key: dummy(value) for key, value in schema.get("properties", {}).items() if key in required}
    return _DUMMIES.get(kind, "scripted")


def _shell(command: str, tools: list[Tool], *, escalated: bool) -> Call | None:
    escalation = {"sandbox_permissions": "require_escalated", "justification": "the script asks"} if escalated else {}
    tool = _first(tools, _SHELLS)
    if tool is not None:
        return _call(tool, {"command": command}, escalation)
    if (code := _code_mode(tools)) is None:
        return None
    return _in_code(code, "exec_command", {"cmd": command} | escalation)


def _file(marker: str, values: list[str], tools: list[Tool]) -> Call | None:
    meanings = dict(zip(_FIELDS[marker], values, strict=True))
    tool = _first(tools, _NAMES[marker])
    if tool is not None:
        return _call(tool, meanings)
    if marker == "read":
        return _shell(f"cat '{values[0]}'", tools, escalated=False)
    text = _patch(marker, *values)
    patch = next((tool for tool in tools if tool.name == "apply_patch"), None)
    if patch is not None:
        return Call(patch.name, text if patch.freeform else {"input": text}, patch.namespace)
    return _in_code(code, "apply_patch", text) if (code := _code_mode(tools)) else None


def _patch(marker: str, path: str, *texts: str) -> str:
    """Codex's own patch format, in place of a writer and an editor."""
    if marker == "write":
        body = [f"*** Add File: {path}", *(f"+{line}" for line in texts[0].splitlines())]
    else:
        body = [f"*** Update File: {path}", "@@", f"-{texts[0]}", f"+{texts[1]}"]
    return "\n".join(["*** Begin Patch", *body, "*** End Patch"])


def _named(marker: str, name: str, arguments: Json, tools: list[Tool]) -> Call | None:
    server, _, tail = name.rpartition(".") if marker == "mcp" else ("", "", name)
    offered = [tool for tool in tools if tool.name.endswith(tail) and server in f"{tool.namespace}{tool.name}"]
    if offered and marker != "call_unlisted":
        return Call(offered[0].name, arguments, offered[0].namespace)
    if marker == "call":
        return None
    if marker == "mcp" and (code := _code_mode(tools)) is not None:
        return _in_code(code, f"mcp__{server}__{tail}", arguments)
    return Call(f"mcp__{server}__{tail}" if marker == "mcp" else name, arguments)


def _call(tool: Tool, meanings: dict[str, str], extra: Json | None = None) -> Call:
    properties: Json = tool.schema.get("properties", {})
    arguments = dummy(tool.schema | {"type": "object"})
    for meaning, value in meanings.items():
        for key in properties:
            if key.lower() in _MEANINGS[meaning]:
                arguments[key] = ["bash", "-lc", value] if properties[key].get("type") == "array" else value
    if "edits" in properties:
        arguments["edits"] = [{"oldText": meanings["old"], "newText": meanings["new"]}]
    arguments |= {key: value for key, value in (extra or {}).items() if key in properties}
    return Call(tool.name, arguments, tool.namespace)


def _first(tools: Iterable[Tool], names: tuple[str, ...]) -> Tool | None:
    ranked = [tool for tool in tools if tool.name.lower() in names and not tool.freeform]
    return min(ranked, key=lambda tool: names.index(tool.name.lower()), default=None)


def _code_mode(tools: list[Tool]) -> Tool | None:
    """Codex's newer models offer one tool that runs JavaScript, in which the others are functions."""
    return next((tool for tool in tools if tool.name == "exec" and tool.freeform), None)


def _in_code(exec_tool: Tool, function: str, arguments: Json | str) -> Call:
    script = f"text(await tools.{function}({json.dumps(arguments)}))"
    return Call(exec_tool.name, script, exec_tool.namespace)
