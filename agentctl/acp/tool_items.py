"""The life of tool calls as items: started, updated, completed, and a result item that may stream before the end."""

from __future__ import annotations

from typing import Any

from agentctl import events
from agentctl.acp.drafts import Drafts
from agentctl.acp.tool_call import ToolCall

Json = dict[str, Any]

_REMEMBERED_TURNS = 2


class ToolItems:
    """All tool calls of a session that may still be spoken of."""

    def __init__(self, out: Drafts) -> None:
        self._out = out
        self._tools: dict[str, ToolCall] = {}
        self._due: list[ToolCall] = []
        """Completed calls without any output yet: codex and pi replay a completed call first, its output after it."""

    def get(self, call_id: str) -> ToolCall | None:
        return self._tools.get(call_id)

    def upsert(self, fields: Json, *, asked: bool = False) -> None:
        """Take a ``tool_call``, a ``tool_call_update`` or (``asked``) the tool call of a permission request."""
        call_id = fields["toolCallId"]
        if not isinstance(call_id, str):
            raise TypeError("toolCallId is no string")
        tool = self._tools.get(call_id)
        fresh = tool is None
        if tool is None:
            self._out.settle()
            tool = self._tools[call_id] = ToolCall(call_id, self._out.new_item())
        changed = tool.merge(fields, asked=asked)
        if fresh:
            self._out.item("started", tool.call_item("in_progress"))
        delta = tool.new_terminal_text(fields.get("_meta"))
        if delta:
            self._stream(tool, delta)
        if tool.completed:
            self._late(tool, changed, streamed=bool(delta))
        elif tool.ended:
            self._complete(tool)
        elif not fresh and (changed or not delta):
            self._out.item("updated", tool.call_item("in_progress"))

    def settle(self) -> None:
        """Something else begins: outputs that were waited for will not come."""
        due, self._due = self._due, []
        for tool in due:
            self._complete_result(tool)

    def end_turn(self, cancelled: bool) -> None:
        """Complete what is open, then forget the calls that ended some turns ago: only late updates need them."""
        self.settle()
        for call_id, tool in list(self._tools.items()):
            self._close(tool, cancelled)
            tool.turns_ago += 1
            if tool.turns_ago > _REMEMBERED_TURNS and (tool.ended or tool.rejected is not None):
                del self._tools[call_id]

    def _complete(self, tool: ToolCall) -> None:
        tool.completed = True
        self._out.item("completed", tool.call_item(tool.status))
        self._complete_result_when_known(tool)

    def _complete_result_when_known(self, tool: ToolCall) -> None:
        known = tool.result_open or tool.knows_output()
        if known:
            self._due = [other for other in self._due if other is not tool]
            self._complete_result(tool)
        elif tool not in self._due:
            self._due.append(tool)

    def _late(self, tool: ToolCall, changed: bool, *, streamed: bool) -> None:
        """The call's item has completed: it changes in place; further output is a result item of its own."""
        if changed or not streamed:
            self._out.item("updated", tool.call_item(tool.status))
        if tool.result_done and not tool.result_open:
            if changed:
                self._out.item("updated", tool.result_item(tool.status))
        elif tool.ended:
            self._complete_result_when_known(tool)

    def _stream(self, tool: ToolCall, delta: str) -> None:
        if not tool.result_open:
            tool.streamed_before = len(tool.terminal.text) - len(delta) if tool.result_done else 0
            self._start_result(tool)
        self._out.emit("item.delta", {"item_id": tool.result_id, "delta": delta, "native_item_id": tool.call_id})

    def _start_result(self, tool: ToolCall) -> None:
        tool.result_id = self._out.new_item()
        tool.result_open = True
        item = events.item(
            tool.result_id,
            "tool_result",
            role="tool",
            native_item_id=tool.call_id,
            parent_id=tool.item_id,
            exit_code=None,
        )
        self._out.item("started", item)

    def _complete_result(self, tool: ToolCall, status: str | None = None, *, synthetic: bool = False) -> None:
        if not tool.result_open:
            self._start_result(tool)
        tool.result_open = False
        tool.result_done = True
        self._out.item("completed", tool.result_item(status or tool.status), synthetic=synthetic)

    def _close(self, tool: ToolCall, cancelled: bool) -> None:
        """An open call ends ``failed`` if rejected or cancelled; else the agent may still be at it (as codex)."""
        if tool.rejected is not None:
            status, label, detail = "failed", "rejected", tool.rejected
        elif cancelled:
            status, label, detail = "failed", "cancelled", "the turn was cancelled before the agent reported the end"
        else:
            status, label, detail = "in_progress", "not ended", "the turn ended before the agent reported the end"
        if not tool.completed:
            tool.completed = True
            part = {"type": "status", "label": label, "detail": detail}
            self._out.item("completed", tool.call_item(status, part), synthetic=True)
        if tool.result_open:
            self._complete_result(tool, tool.status if tool.ended else status, synthetic=True)
