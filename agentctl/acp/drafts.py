"""The drafts that one frame becomes: numbering of items, and who carries the frame's line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentctl.events import Draft, Source

Json = dict[str, Any]


class Drafts:
    """Shared by the parts of a translator. ``begin`` opens a list, ``emit`` adds to it; the first draft gets the line.

    ``settle`` is called before an item starts, so that what was open before can complete.
    """

    def __init__(self, first_item: int) -> None:
        self.next_item = first_item
        self.replaying = False
        self.settle: Callable[[], None] = lambda: None
        self.list: list[Draft] = []
        self._line: bytes | None = None

    def begin(self, line: bytes | None) -> None:
        self.list = []
        self._line = line

    def emit(self, kind: str, data: Json, source: Source = "agent", synthetic: bool = False) -> None:
        if self.replaying:
            data["replayed"] = True
        self.list.append(Draft(kind, data, source, synthetic, self._line))
        self._line = None

    def item(self, event: str, item: Json, *, synthetic: bool = False) -> None:
        """``item.<event>``; a synthetic one is the supervisor's own."""
        self.emit(f"item.{event}", {"item": item}, "daemon" if synthetic else "agent", synthetic)

    def unparsed(self, error: str, location: str, raw: Any) -> None:
        self.emit("agent.unparsed", {"error": error, "location": location, "raw": raw})

    def new_item(self) -> str:
        number = self.next_item
        self.next_item = number + 1
        return f"itm_{number}"
