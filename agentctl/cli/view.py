"""A turn as it is told to a person: events in, hooks called in order. ``plain_output`` and ``rich_output`` draw them.

Deltas of one item that arrive together are joined before they are told, so that a burst costs one call, not thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agentctl import events
from agentctl.cli import story
from agentctl.cli.untrusted import clean

if TYPE_CHECKING:
    from agentctl.ops.result import Result

Json = dict[str, Any]


class View:
    """Override the hooks; each does nothing by itself. What an agent wrote has been cleaned of control characters."""

    def step(self, text: str) -> None:
        """Something was reached on the way to the turn: "Starting claude …"."""

    def begin(self) -> None:
        """The message was taken; now the agent works."""

    def text(self, item_id: str, delta: str) -> None:
        """More of the agent's answer."""

    def reasoning(self, item_id: str, delta: str) -> None:
        """More of its thoughts."""

    def item_end(self, item_id: str) -> None:
        """The answer or thought is complete."""

    def user(self, text: str) -> None:
        """What the user said (only where a conversation is retold)."""

    def attached(self, names: list[str]) -> None:
        """What the message just told had besides its text (only where a conversation is retold)."""

    def permission(self, said: str, what: str, *, rejected: bool) -> None:
        """A request was answered so (only where a conversation is retold)."""
        self.note(f"{said}: {what}", "warning" if rejected else "dim")

    def turn_start(self, turn_id: str, at: str) -> None:
        """A turn began (only where a conversation is retold)."""

    def turn_end(self, result: Result) -> None:
        """It ended (only where a conversation is retold)."""
        self.note(*story.result_note(result))

    def tool(self, item: Json) -> None:
        """A tool call began or changed."""

    def tool_end(self, item: Json) -> None:
        """A tool call is over."""

    def tool_result(self, item: Json) -> None:
        """What a tool gave back."""

    def plan(self, item: Json) -> None:
        """The plan, whole."""

    def asked(self, permission_id: str, tool_call: Json | None) -> None:
        """A permission is asked for: the ACP tool call; None when that was answered."""

    def note(self, line: str, style: str = "") -> None:
        """A fact worth a line."""

    def usage(self, data: Json) -> None:
        """Tokens, context or cost so far."""

    def flush(self) -> None:
        """All that arrived together has been told."""

    def pause(self) -> None:
        """Leave the terminal to a question; what is told meanwhile waits."""

    def resume(self) -> None:
        """The terminal is ours again."""

    def cut_off(self, line: str) -> None:
        """The turn died in the middle, as ``line`` says, and another one follows."""
        self.note(line, "warning")

    def cancelling(self, line: str) -> None:
        """The user has asked for the turn's end, as ``line`` says; it may take a while."""
        self.note(line, "warning")

    def finish(self, result: Result) -> None:
        """The turn has ended."""

    def close(self) -> None:
        """Leave the terminal as it was, also after an error."""


class Teller:
    """Feeds a view from events. ``retell`` tells history: the user's messages, too."""

    def __init__(self, view: View, *, retell: bool = False) -> None:
        self._view = view
        self._retell = retell
        self._kinds: dict[str, str] = {}
        self._open = ""
        self._deltas: list[str] = []
        self._handlers: dict[str, Callable[[Json], None]] = {
            "item.started": self._started,
            "item.updated": self._updated,
            "item.completed": self._completed,
            "usage.updated": view.usage,
            "permission.requested": self._permission_requested,
        }

    def feed(self, batch: Sequence[events.Event]) -> None:
        """Tell a batch of events."""
        for event in batch:
            data = event.data
            if event.type == "item.delta":
                self._delta(data)
            elif not data.get("replayed"):
                self._tell_deltas()
                self._other(event.type, data)
        self._tell_deltas()
        self._view.flush()

    def _delta(self, data: Json) -> None:
        if data["item_id"] != self._open:
            self._tell_deltas()
            self._open = data["item_id"]
        self._deltas.append(data["delta"])

    def _tell_deltas(self) -> None:
        if not self._deltas:
            return
        text, self._deltas = clean("".join(self._deltas)), []
        kind = self._kinds.get(self._open)
        if kind == "message":
            self._view.text(self._open, text)
        elif kind == "reasoning":
            self._view.reasoning(self._open, text)

    def _other(self, kind: str, data: Json) -> None:
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(data)
            return
        if kind == "permission.resolved":
            self._view.asked(data["permission_id"], None)
        line = story.note_of(kind, data)
        if line is not None:
            self._view.note(*line)

    def _permission_requested(self, data: Json) -> None:
        self._view.asked(data["permission_id"], (data.get("metadata") or {}).get("tool_call") or {})

    def _started(self, data: Json) -> None:
        item = data["item"]
        if item["role"] != "user":
            self._kinds[item["item_id"]] = item["kind"]
        if item["kind"] == "tool_call":
            self._view.tool(item)
        elif text := events.text_of(item):
            self._open, self._deltas = item["item_id"], [text]

    def _updated(self, data: Json) -> None:
        item = data["item"]
        if item["kind"] == "tool_call":
            self._view.tool(item)
        elif item["kind"] == "plan":
            self._view.plan(item)

    def _completed(self, data: Json) -> None:
        item = data["item"]
        seen = self._kinds.pop(item["item_id"], None) is not None
        match item["kind"]:
            case "message" | "reasoning":
                self._message_end(item, seen)
            case "tool_call":
                self._view.tool_end(item)
            case "tool_result":
                self._view.tool_result(item)
            case "plan":
                self._view.plan(item)
            case "status":
                self._view.note(*story.status_note(item))

    def _message_end(self, item: Json, seen: bool) -> None:
        if item["role"] == "user":
            if self._retell:
                self._retold(item)
            return
        if not seen:
            tell = self._view.text if item["kind"] == "message" else self._view.reasoning
            tell(item["item_id"], clean(events.text_of(item)))
        self._view.item_end(item["item_id"])

    def _retold(self, item: Json) -> None:
        from agentctl.cli.retell import attached

        self._view.user(clean(events.text_of(item)))
        if names := attached(item):
            self._view.attached(names)
