"""The view without a terminal: the answer's text on stdout, the story in plain lines on stderr. And plain tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentctl.cli import story
from agentctl.cli.output import Output, is_terminal, write_text
from agentctl.cli.untrusted import clean, one_line
from agentctl.cli.view import View

if TYPE_CHECKING:
    from agentctl.ops.result import Result

Json = dict[str, Any]
_NARROWEST = 6


class PlainView(View):
    """``streams``: show text as it comes and say what tools do; without it only what concerns the outcome is said."""

    def __init__(self, out: Output, *, streams: bool) -> None:
        self._out = out
        self._streams = streams
        self._pending: list[str] = []
        self._item = ""
        self._told: dict[str, str] = {}
        self._at_line_start = True
        self._paused = False

    def step(self, text: str) -> None:
        self._out.story(text, "dim")

    def text(self, item_id: str, delta: str) -> None:
        if not self._streams:
            return
        if self._item and item_id != self._item:
            self._pending.append("\n" if self._at_line_start else "\n\n")
        self._item = item_id
        self._pending.append(delta)
        self._at_line_start = delta.endswith("\n")

    def tool(self, item: Json) -> None:
        if self._streams and item["status"] == "in_progress":
            self._say_tool(item)

    def _say_tool(self, item: Json) -> None:
        title = story.tool_title(item)
        if self._told.get(item["item_id"]) != title:
            self._told[item["item_id"]] = title
            self._out.story(f"● {title}", "dim")

    def tool_end(self, item: Json) -> None:
        if self._streams and item["status"] == "failed":
            self._out.story(f"✗ {story.tool_title(item)}", "warning")

    def note(self, line: str, style: str = "") -> None:
        self._out.story(line, style)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self.flush()

    def flush(self) -> None:
        if self._pending and not self._paused:
            text, self._pending = "".join(self._pending), []
            write_text(text)

    def finish(self, result: Result) -> None:
        """End the answer with a newline, or print it whole where it was not streamed; then the final line."""
        if not self._streams or not self._item:
            self._pending.append(clean(result.text))
            self._at_line_start = not result.text or result.text.endswith("\n")
        if not self._at_line_start:
            self._pending.append("\n")
        self.flush()
        self._out.story(*story.result_note(result))


def print_table(
    out: Output, columns: Sequence[str], rows: Sequence[Sequence[str]], *, first_is_whole: bool = False
) -> None:
    """Aligned columns that fit a terminal; tab-separated values with a header elsewhere. ``first_is_whole``: the first
    column is cut only when no other can give way any more."""
    table = [[one_line(cell, 1000) for cell in row] for row in rows]
    header = [column.upper() for column in columns]
    if not is_terminal(sys.stdout):
        write_text("".join("\t".join(row) + "\n" for row in [header, *table]))
        return
    import shutil

    widths = _fitted([header, *table], shutil.get_terminal_size().columns, int(first_is_whole))
    write_text("".join(_row(row, widths) + "\n" for row in [header, *table]))


def _fitted(table: Sequence[Sequence[str]], columns: int, whole: int) -> list[int]:
    """Widths of columns; the widest give way until the row fits, the first ``whole`` ones last."""
    from agentctl.cli.cells import width

    widths = [max(width(row[i]) for row in table) for i in range(len(table[0]))]
    for start in (whole, 0):
        while sum(widths) + 2 * (len(widths) - 1) > columns and max(widths[start:], default=0) > _NARROWEST:
            widths[widths.index(max(widths[start:]), start)] -= 1
    return widths


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    from agentctl.cli.cells import padded

    return "  ".join(padded(c, w) for c, w in zip(row, widths, strict=True)).rstrip()


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """``name  value`` lines; empty values are left out, further lines of a value stand below its first."""
    shown = [(name, clean(value)) for name, value in fields if value]
    width = max((len(name) for name, _ in shown), default=0)
    below = "\n" + " " * (width + 2)
    write_text("".join(f"{name.ljust(width)}  {value.replace(chr(10), below)}\n" for name, value in shown))
