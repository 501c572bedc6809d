"""A conversation told again from its events: also what the user said, who allowed what, and how each turn ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from agentctl import events
from agentctl.cli import story
from agentctl.cli.untrusted import one_line
from agentctl.cli.view import Teller, View
from agentctl.ops.result import result_of

Json = dict[str, Any]

_ALLOWED = {"accept": "Allowed once", "accept_for_session": "Always allowed", "reject": "Rejected"}
_BY = {
    "user": "by the user",
    "policy": "by the permissions in force",
    "timeout": "since nobody answered",
    "cancel": "since the turn was cancelled",
    "agent": "since the agent took it back or was gone",
}


class Reteller(Teller):
    """Tells a view all of history."""

    def __init__(self, view: View) -> None:
        super().__init__(view, retell=True)
        self._handlers |= {"permission.resolved": self._permission, "question.resolved": self._question}

    def feed(self, batch: Sequence[events.Event]) -> None:
        for event in batch:
            if event.type == "turn.started":
                self._tell_deltas()
                self._view.turn_start(event.data["turn_id"], event.body["time"])
            super().feed([event])
            if event.type == "turn.ended" and event.data["metadata"].get("duration_ms") is not None:
                self._view.turn_end(result_of(event.data["turn_id"], event.data["metadata"]))

    def _permission(self, data: Json) -> None:
        self._answered(_ALLOWED.get(data["status"], "Rejected"), data, data.get("action") or "a request")

    def _question(self, data: Json) -> None:
        said = "Answered" if data["status"] == "answered" else "Declined"
        self._answered(said, data, data.get("prompt") or "a question")

    def _answered(self, said: str, data: Json, what: str) -> None:
        by = _BY.get(str((data.get("metadata") or {}).get("by")), "")
        self._view.permission(f"{said} {by}".strip(), one_line(what), rejected=said in ("Rejected", "Declined"))


def lines(batch: Sequence[events.Event]) -> Iterator[bytes]:
    """The JSON lines of a transcript: ``{"type", "turn_id", "time", …}`` with the finished ``item``, the answered
    ``permission`` or ``question``, or the summary of the ``turn`` that ended."""
    for event in batch:
        kind, _, step = event.type.partition(".")
        if step in ("completed", "resolved", "ended") and not event.data.get("replayed"):
            what = {"item": "item", "turn": "metadata"}.get(kind)
            body = {"type": kind, "turn_id": event.turn_id, "time": event.body["time"]}
            if kind in ("item", "permission", "question", "turn"):
                body[kind] = event.data[what] if what else event.data
                yield json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")


def attached(item: Json) -> list[str]:
    """What goes along with a message besides its text, a few words each."""
    return [_attached(part["content"]) for part in item["content"] if part.get("type") == "acp"]


def _attached(block: Any) -> str:
    if not isinstance(block, dict):
        return "something"
    inner: Any = block.get("resource")
    inner = inner if isinstance(inner, dict) else {}
    name = block.get("name") or str(block.get("uri") or inner.get("uri") or "").rpartition("/")[2]
    mime = block.get("mimeType") or inner.get("mimeType") or block.get("type")
    size = len(block["data"]) * 3 // 4 if isinstance(block.get("data"), str) else 0
    facts = ", ".join(filter(None, (str(mime or ""), story.size(size) if size else "")))
    return one_line(f"{name} ({facts})" if name else facts or "something")
