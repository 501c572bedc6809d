"""Events as a supervisor would log them, for tests that look at what becomes of them."""

from __future__ import annotations

import json
from typing import Any

from agentctl import events
from agentctl.events import Event

Json = dict[str, Any]


class Log:
    """Numbers events as they are added."""

    def __init__(self, turn_id: str = "trn_1") -> None:
        self.turn_id = turn_id
        self.events: list[Event] = []

    def add(self, type_: str, **data: Any) -> Event:
        sequence = len(self.events) + 1
        body = {
            "sequence": sequence,
            "event_id": f"evt_{sequence}",
            "time": "2026-11-21T09:00:00.123Z",
            "session_id": "ses_1",
            "native_session_id": None,
            "turn_id": self.turn_id,
            "source": "agent",
            "synthetic": False,
            "type": type_,
            "data": data,
        }
        event = Event(sequence, body, json.dumps(body, ensure_ascii=False).encode())
        self.events.append(event)
        return event

    def message(self, item_id: str, *deltas: str, kind: str = "message") -> None:
        part = "text" if kind == "message" else "reasoning"
        self.add("item.started", item=events.item(item_id, kind, role="assistant"))
        for delta in deltas:
            self.add("item.delta", item_id=item_id, delta=delta)
        whole = [{"type": part, "text": "".join(deltas), "visibility": "public"}]
        self.add("item.completed", item=events.item(item_id, kind, role="assistant", status="completed", content=whole))

    def tool(self, item_id: str, title: str, *, output: str = "", status: str = "completed", content: Any = ()) -> None:
        tool = {"call_id": item_id, "name": title, "title": title, "kind": "execute", "locations": [], "raw_input": {}}
        self.add("item.started", item=events.item(item_id, "tool_call", role="assistant", tool=tool))
        done = events.item(item_id, "tool_call", role="assistant", status=status, tool=tool, content=list(content))
        self.add("item.completed", item=done)
        if output:
            text = [{"type": "text", "text": output}]
            result = events.item(
                f"{item_id}r", "tool_result", role="tool", parent_id=item_id, status=status, content=text
            )
            self.add("item.completed", item={**result, "exit_code": 0})

    def ended(self, outcome: str = "completed", **more: Any) -> None:
        metadata = {"outcome": outcome, "stop_reason": "end_turn", "context": "new", "duration_ms": 1234, **more}
        self.add("turn.ended", phase="ended", turn_id=self.turn_id, metadata=metadata)


def permission(request_id: str = "req_1", **tool_call: Any) -> Json:
    """The data of a permission request with the four usual options."""
    options = [
        {"optionId": "o1", "name": "Allow", "kind": "allow_once"},
        {"optionId": "o2", "name": "Always allow", "kind": "allow_always"},
        {"optionId": "o3", "name": "Reject", "kind": "reject_once"},
    ]
    call = {"toolCallId": "t1", "title": "Remove the build directory", "kind": "execute", **tool_call}
    return {
        "permission_id": request_id,
        "action": call["title"],
        "status": "requested",
        "metadata": {"tool_call": call, "options": options},
    }
