"""What an earlier supervisor left unfinished, read off the log: a turn that was cut off, messages that were not begun.

Only a supervisor that is told of such turns reads its log at the start, and from the end back to where they begin.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from agentctl.events import Draft
from agentctl.supervisor.log.pages import Record
from agentctl.supervisor.log.records import dump
from agentctl.supervisor.log.session_log import SessionLog

Json = dict[str, Any]
_FIRST_LOOK_EVENTS = 4096
_DETAIL = "its sandbox ended before the agent reported the end"


@dataclass(slots=True)
class _Item:
    """An item that began; ``said`` is the text that came since it was last told as a whole."""

    item: Json
    said: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Cut:
    """A turn without its end: the items and requests of it that are open."""

    items: dict[str, _Item] = field(default_factory=dict)
    requests: dict[str, Draft] = field(default_factory=dict)

    def ends(self) -> list[Draft]:
        """What completes it: each item as far as it was seen, each request as one that nobody waits for."""
        items = [Draft("item.completed", {"item": _ended(open_)}, "daemon", True) for open_ in self.items.values()]
        return [*self.requests.values(), *items]


class Past:
    """What the log says of the turns that were asked for: ``ended`` ids, and those ``cut`` off."""

    def __init__(self, wanted: set[str]) -> None:
        self.ended: set[str] = set()
        self.cut: dict[str, Cut] = {}
        self._wanted = wanted
        self._told: set[str] = set()
        self._running: str | None = None
        self._mark = b""

    @property
    def is_whole(self) -> bool:
        """Whether every wanted turn was found from its first event on."""
        return self._told >= self._wanted

    def take(self, record: Record) -> None:
        line = record.line
        if b'"type":"turn.' in line:
            self._turn(json.loads(line))
        elif self._running is not None and self._mark in line:
            self._event(self.cut[self._running], json.loads(line))

    def _turn(self, event: Json) -> None:
        turn_id, kind = event["data"].get("turn_id"), event["type"]
        if turn_id not in self._wanted:
            return
        if kind == "turn.queued":
            self._told.add(turn_id)
        elif kind == "turn.started":
            self._told.add(turn_id)
            self._running, self._mark = turn_id, b'"turn_id":%b' % dump(turn_id)
            self.cut[turn_id] = Cut()
        elif kind == "turn.ended":
            self.ended.add(turn_id)
            self.cut.pop(turn_id, None)
            self._running = None

    def _event(self, cut: Cut, event: Json) -> None:
        kind, data = event["type"], event["data"]
        if kind == "item.started" or (kind == "item.updated" and data["item"]["item_id"] in cut.items):
            cut.items[data["item"]["item_id"]] = _Item(data["item"])
        elif kind == "item.delta" and data["item_id"] in cut.items:
            cut.items[data["item_id"]].said.append(data["delta"])
        elif kind == "item.completed":
            cut.items.pop(data["item"]["item_id"], None)
        elif kind == "permission.requested":
            said = {"permission_id": data["permission_id"], "action": data["action"], "status": "reject"}
            cut.requests[data["permission_id"]] = _lapsed("permission.resolved", said)
        elif kind == "question.requested":
            said = {"question_id": data["question_id"], "prompt": data["prompt"], "status": "rejected"}
            cut.requests[data["question_id"]] = _lapsed("question.resolved", {**said, "response": None})
        elif kind in ("permission.resolved", "question.resolved"):
            cut.requests.pop(data.get("permission_id") or data["question_id"], None)


def look_back(log: SessionLog, turn_ids: set[str]) -> Past:
    """What the log says of these turns, reading no more of it than it must."""
    oldest, span = log.first_sequence - 1, _FIRST_LOOK_EVENTS
    while True:
        past, after = Past(turn_ids), max(oldest, log.last_sequence - span)
        begin = after
        while page := log.read(after):
            after = page[-1].sequence
            for record in page:
                past.take(record)
        if past.is_whole or begin == oldest:
            return past
        span *= 8


def _lapsed(kind: str, data: Json) -> Draft:
    return Draft(kind, {**data, "metadata": {"by": "agent"}}, "daemon", True)


def _ended(open_: _Item) -> Json:
    item, text = open_.item, "".join(open_.said)
    parts = [*item["content"]]
    if text and item["kind"] == "reasoning":
        parts.append({"type": "reasoning", "text": text, "visibility": "public"})
    elif text and item["kind"] == "tool_result":
        parts.append({"type": "tool_result", "call_id": item["native_item_id"], "output": text})
    elif text:
        parts.append({"type": "text", "text": text})
    if item["kind"] != "message":
        parts.append({"type": "status", "label": "interrupted", "detail": _DETAIL})
    return {**item, "status": "failed", "content": parts}
