"""A conversation as plain text: who said what, and what tools did."""

from __future__ import annotations

from typing import Any

from agentctl.cli import story
from agentctl.cli.output import write_text
from agentctl.cli.view import View

OUTPUT_LINES = 8


class PlainTranscript(View):
    """Collects paragraphs and writes them on ``close``."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def user(self, text: str) -> None:
        self._parts.append("> " + text.strip("\n").replace("\n", "\n> "))

    def text(self, item_id: str, delta: str) -> None:
        self._parts.append(delta.strip("\n"))

    def tool_end(self, item: dict[str, Any]) -> None:
        mark = {"failed": "✗"}.get(item["status"], "●")
        self._parts.append("\n".join([f"{mark} {story.tool_title(item)}", *_diff_lines(item)]))

    def tool_result(self, item: dict[str, Any]) -> None:
        lines = story.output_of(item).splitlines()
        shown = [*_diff_lines(item), *(f"    {line}" for line in lines[:OUTPUT_LINES])]
        if len(lines) > OUTPUT_LINES:
            shown.append(f"    … {len(lines) - OUTPUT_LINES} more lines")
        if shown:
            self._parts.append("\n".join(shown))

    def note(self, line: str, style: str = "") -> None:
        self._parts.append(line)

    def close(self) -> None:
        write_text("".join(part + "\n\n" for part in self._parts if part)[:-1])


def _diff_lines(item: dict[str, Any]) -> list[str]:
    return [f"    {line}" for diff in story.diffs_of(item) for line in diff.lines]
