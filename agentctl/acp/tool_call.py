"""One tool call: what its frames said, merged, and the two items it becomes (the call and its result)."""

from __future__ import annotations

import json
from typing import Any

from agentctl import events
from agentctl.acp.diffs import file_ref
from agentctl.acp.tool_output import (
    Output,
    Terminal,
    diffs_of,
    exit_code_of_raw,
    output_of_content,
    output_of_raw,
)

Json = dict[str, Any]

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "title": str,
    "name": str,
    "kind": str,
    "status": str,
    "content": list,
    "locations": list,
    "rawInput": object,
    "rawOutput": object,
}
# The schema ends with "completed" and "failed"; the rest is what agents in the field invent.
_STATUS = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "failed",
    "canceled": "failed",
    "rejected": "failed",
}


class ToolCall:
    """Upserted from ``tool_call``, ``tool_call_update`` and ``request_permission``, in any order."""

    def __init__(self, call_id: str, item_id: str) -> None:
        self.call_id = call_id
        self.item_id = item_id
        self.merged: Json = {"toolCallId": call_id}
        """The ACP ToolCall as known now."""
        self.terminal = Terminal()
        self.completed = False
        """Whether the call's item has completed."""
        self.result_id: str | None = None
        """The result's item while it streams; its latest one afterwards."""
        self.result_open = False
        self.result_done = False
        self.streamed_before = 0
        """Length of the terminal's text that earlier result items hold."""
        self.rejected: str | None = None
        self.turns_ago = 0
        self._arguments = ""
        self._tool_name: str | None = None
        self._tool_response: Any = None
        self._planned_content: list[Any] = []
        self._output_content: list[Any] | None = None
        self._diffs: list[Json] = []

    @property
    def status(self) -> str:
        """The item status: ``in_progress``, ``completed`` or ``failed``."""
        return _STATUS.get(self.merged.get("status", ""), "in_progress")

    @property
    def ended(self) -> bool:
        """Whether the agent said that the call ended."""
        return self.status != "in_progress"

    @property
    def exit_code(self) -> int | None:
        """Unknown stays unknown: a status is no exit code."""
        code = self.terminal.exit_code
        return code if code is not None else exit_code_of_raw(self.merged.get("rawOutput"))

    def merge(self, fields: Json, *, asked: bool = False) -> bool:
        """Take a frame's fields; null and missing mean unchanged. Returns whether anything changed.

        ``asked``: the fields come from a permission request. Its status is the request's, its empty lists say
        nothing, and its content describes the plan, not the output.
        """
        changed = False
        for key, kind in _FIELDS.items():
            value = fields.get(key)
            if value is None or not isinstance(value, kind) or (asked and (value == [] or key == "status")):
                continue
            if self.merged.get(key) != value:
                self.merged[key] = value
                changed = True
                if key == "rawInput":
                    self._arguments = json.dumps(value, ensure_ascii=False)
        self._take_content(fields.get("content"), asked=asked)
        self._take_claude_meta(fields.get("_meta"))
        return changed

    def new_terminal_text(self, meta: Any) -> str:
        """Read the display terminal in a frame's ``_meta``; returns the text it adds."""
        return self.terminal.take(meta) if isinstance(meta, dict) and meta else ""

    def call_item(self, status: str, *extra: Json) -> Json:
        """The ``tool_call`` item; ``extra`` are further content parts."""
        merged = self.merged
        name = merged.get("name") or self._tool_name or merged.get("title") or merged.get("kind") or "tool"
        part = {"type": "tool_call", "name": name, "arguments": self._arguments, "call_id": self.call_id}
        tool = {
            "call_id": self.call_id,
            "name": name,
            "title": merged.get("title") or name,
            "kind": merged.get("kind", "other"),
            "locations": merged.get("locations", []),
            "raw_input": merged.get("rawInput"),
        }
        return events.item(
            self.item_id,
            "tool_call",
            role="assistant",
            status=status,
            content=[part, *extra],
            native_item_id=self.call_id,
            tool=tool,
        )

    def result_item(self, status: str, *extra: Json) -> Json:
        """The ``tool_result`` item with all that was told so far."""
        assert self.result_id is not None
        output = self.output()
        text = output.text if not self.streamed_before else self.terminal.text[self.streamed_before :]
        parts: list[Json] = [{"type": "tool_result", "call_id": self.call_id, "output": text or ""}, *output.others]
        if status == "completed" and not self.streamed_before:
            parts += [file_ref(d["path"], _text(d.get("oldText")), d["newText"]) for d in self._diffs]
        if status != "in_progress" and not self.knows_output():
            parts.append({"type": "status", "label": "output not reported", "detail": "the agent did not send it"})
        return events.item(
            self.result_id,
            "tool_result",
            role="tool",
            status=status,
            content=[*parts, *extra],
            native_item_id=self.call_id,
            parent_id=self.item_id,
            exit_code=self.exit_code,
        )

    def knows_output(self) -> bool:
        """Whether anything was said about the output, be it that there is none."""
        output = self.output()
        return (
            self.terminal.exited
            or output.text is not None
            or bool(output.others)
            or bool(self._diffs)
            or self.exit_code is not None
        )

    def output(self) -> Output:
        """The best account: the terminal, else rawOutput's text, else content, else claude's own tool response."""
        if self.terminal.text:
            return Output(self.terminal.text, [])
        raw, content = output_of_raw(self.merged.get("rawOutput")), output_of_content(self._content())
        text = raw.text if raw.text is not None else content.text
        if text is None and self._tool_response is not None:
            text = output_of_raw(self._tool_response).text
        others = content.others or (raw.others if text is None else [])
        return Output(text, others)

    def _take_content(self, content: Any, *, asked: bool) -> None:
        """Content under ``pending`` describes the plan (claude), later it is output."""
        if not isinstance(content, list):
            return
        self._diffs = diffs_of(content) or self._diffs
        if not asked:
            if self.merged.get("status", "pending") == "pending":
                self._planned_content = content
            else:
                self._output_content = content

    def _take_claude_meta(self, meta: Any) -> None:
        claude = meta.get("claudeCode") if isinstance(meta, dict) else None
        if isinstance(claude, dict):
            self._tool_response = claude.get("toolResponse", self._tool_response)
            if isinstance(claude.get("toolName"), str):
                self._tool_name = claude["toolName"]

    def _content(self) -> list[Any]:
        if self._output_content is not None:
            return self._output_content
        return self._planned_content if self.status == "completed" else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
