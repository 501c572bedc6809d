"""Items that stand for a while and change in place: plans, compactions, subagents; and notices, which end at once."""

from __future__ import annotations

from typing import Any

from agentctl import events
from agentctl.acp.drafts import Drafts

Json = dict[str, Any]


class StandingItems:
    """Open items by what they are about. Each method takes one ``session/update`` and may raise on a wrong shape."""

    def __init__(self, out: Drafts) -> None:
        self._out = out
        self._open: dict[str, Json] = {}

    def plan(self, update: Json) -> None:
        self._plan("", {"entries": update["entries"]})

    def plan_update(self, update: Json) -> None:
        self._plan(_str(update["plan"]["planId"]), update["plan"])

    def plan_removed(self, update: Json) -> None:
        plan_id = _str(update["planId"])
        fields = _fields("plan", [_status_part("plan removed")], plan_id, role="assistant")
        self._put(f"plan:{plan_id}", fields, status="completed")

    def notice(self, update: Json) -> None:
        severity = update.get("severity") or "info"
        part = _status_part(update.get("title") or severity, update.get("description"))
        self._put("notice", _fields("status", [part], severity=severity), status="completed")

    def compaction(self, update: Json) -> None:
        compaction_id, status = _str(update["compactionId"]), _str(update["status"])
        key = f"compaction:{compaction_id}"
        detail = f"{status}: {update['error']}" if update.get("error") else status
        if isinstance(update.get("summary"), list):
            summary = [_block_part(block) for block in update["summary"]]
        else:
            summary = self._content(key)[1:]
        ended = {"completed": "completed", "failed": "failed", "cancelled": "failed"}.get(status, "in_progress")
        self._put(key, _fields("status", [_status_part("compaction", detail), *summary], compaction_id), status=ended)

    def compaction_summary_chunk(self, update: Json) -> None:
        """A piece of the summary: a delta where it is text. The item keeps all of it for its completion."""
        compaction_id, part = _str(update["compactionId"]), _block_part(update["content"])
        key = f"compaction:{compaction_id}"
        if key not in self._open:
            self._put(key, _fields("status", [_status_part("compaction", "in_progress")], compaction_id))
        item = self._open[key]
        content = [*self._content(key), part]
        if part["type"] == "text":
            self._open[key] = {**item, "content": content}
            self._out.emit("item.delta", {"item_id": item["item_id"], "delta": part["text"]})
        else:
            self._put(key, {"content": content})

    def subagent(self, update: Json) -> None:
        agent_id, state = _str(update["sessionId"]), update.get("state")
        word = (state.get("state") or state.get("type")) if isinstance(state, dict) else state
        label = f"subagent: {update.get('title') or agent_id}"
        parts = [_status_part(label, word if isinstance(word, str) else None), {"type": "json", "json": update}]
        status = "completed" if word == "idle" else "in_progress"
        self._put(f"subagent:{agent_id}", _fields("status", parts, agent_id), status=status)

    def end_turn(self, cancelled: bool) -> None:
        """Complete what is open; what was cut off in its work (no plan works) has failed."""
        for key, item in list(self._open.items()):
            failed = cancelled and item["kind"] != "plan"
            self._put(key, {}, status="failed" if failed else "completed", synthetic=True)

    def _plan(self, plan_id: str, plan: Json) -> None:
        entries = plan.get("entries", [])
        done = bool(entries) and all(entry["status"] == "completed" for entry in entries)
        fields = _fields("plan", [{"type": "json", "json": plan}], plan_id or None, role="assistant")
        self._put(f"plan:{plan_id}", fields, status="completed" if done else "in_progress")

    def _content(self, key: str) -> list[Json]:
        content: list[Json] = self._open[key]["content"] if key in self._open else []
        return content

    def _put(self, key: str, fields: Json, *, status: str = "in_progress", synthetic: bool = False) -> None:
        """Start, update or complete the item of ``key``; ``fields`` replace the ones it had."""
        item = self._open.get(key)
        fresh = item is None
        if item is None:
            self._out.settle()
            item = events.item(self._out.new_item(), **fields)
            self._out.item("started", item)
        item = {**item, **fields, "status": status}
        if status != "in_progress":
            self._open.pop(key, None)
            self._out.item("completed", item, synthetic=synthetic)
            return
        self._open[key] = item
        if not fresh:
            self._out.item("updated", item)


def _fields(kind: str, content: list[Json], native_id: str | None = None, **extra: Any) -> Json:
    return {"kind": kind, "content": content, "native_item_id": native_id, **extra}


def _status_part(label: str, detail: str | None = None) -> Json:
    return {"type": "status", "label": label, "detail": detail}


def _block_part(block: Json) -> Json:
    if block["type"] == "text":
        return {"type": "text", "text": _str(block["text"])}
    return {"type": "acp", "content": block}


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no string")
    return value
