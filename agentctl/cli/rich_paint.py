"""Rich as a painter: text, tools, diffs and plans in, finished ANSI lines out. The only module that imports Rich."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Container
from typing import Any, ClassVar

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.markdown import Heading, Markdown, MarkdownElement
from rich.padding import Padding
from rich.text import Text
from rich.theme import Theme

from agentctl.cli import story
from agentctl.cli.story import Diff
from agentctl.cli.untrusted import clean

Json = dict[str, Any]

_MARKS = {"in_progress": ("●", "yellow"), "completed": ("✓", "green"), "failed": ("✗", "red")}
_STEPS = {"completed": ("✓", "green"), "in_progress": ("▸", "yellow"), "pending": ("○", "dim")}
_STYLES = {"": "", "dim": "dim", "warning": "yellow", "error": "bold red", "good": "green", "bold": "bold"}
_THEME = Theme({"markdown.code": "cyan", "markdown.code_block": "cyan"})
"""Rich paints inline code on black, which is a hole in a light terminal."""
_BLANK_END = re.compile(r"(?:\x1b\[[0-9;]*m| )+$", re.MULTILINE)
OUTPUT_LINES = 8
DIFF_LINES = 60


class _LeftHeading(Heading):
    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}


class _Markdown(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {**Markdown.elements, "heading_open": _LeftHeading}


class Painter:
    """Draws for the terminal's width at the time of each call. Everything given is data, never Rich markup."""

    def __init__(self, *, color: bool) -> None:
        self._buffer = io.StringIO()
        self._console = Console(
            file=self._buffer,
            force_terminal=True,
            no_color=not color,
            color_system="auto" if color else "standard",
            markup=False,
            emoji=False,
            highlight=False,
            legacy_windows=False,
            theme=_THEME,
        )
        if color and self._console.color_system is None:  # FORCE_COLOR with an unknown TERM
            self._console = Console(
                file=self._buffer, force_terminal=True, color_system="standard", markup=False, theme=_THEME
            )

    def paint(self, renderable: RenderableType) -> str:
        """ANSI text of whole lines, each narrower than the terminal, without the blanks that Rich fills lines with: a
        terminal made narrower would wrap them."""
        self._console.width = max(20, terminal_size()[0] - 1)
        self._console.print(renderable)
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return _BLANK_END.sub(_last_reset, text)

    def markdown(self, text: str) -> str:
        """An answer. Links show where they lead, rather than hiding it behind their text."""
        return _trimmed(self.paint(_Markdown(text, code_theme="ansi_dark", hyperlinks=False)))

    def thought(self, text: str) -> str:
        return self.paint(Text(text.strip("\n"), style="dim italic"))

    def user(self, text: str) -> str:
        """What the user said, line by line beside its mark."""
        lines = text.strip("\n").replace("\n", "\n  ")
        return self.paint(Text.assemble(("› ", "bold cyan"), (lines, "bold")))

    def note(self, line: str, style: str) -> str:
        return self.paint(Text(line, style=_STYLES[style]))

    def tool(self, item: Json, seen: Container[tuple[str, ...]] = ()) -> str:
        """The line of a tool call, and when it is over its diffs, but for those whose lines were ``seen``."""
        mark, style = _MARKS[item["status"]]
        title = story.tool_title(item)
        parts: list[RenderableType] = [Text.assemble((mark, style), " ", (title, "bold"))]
        if item["status"] != "in_progress":
            parts += [Padding(_diff(d, title), (0, 0, 0, 2)) for d in _unseen(item, seen)]
        return self.paint(Group(*parts))

    def output(self, item: Json, title: str = "", seen: Container[tuple[str, ...]] = ()) -> str:
        """The first lines of what a tool gave back, and its diffs; ``title`` is what stands above."""
        parts: list[RenderableType] = [_diff(d, title) for d in _unseen(item, seen)]
        text = story.output_of(item)
        if text:
            parts.append(_shortened(text))
        if item.get("exit_code"):
            parts.append(Text(f"exit code {item['exit_code']}", style="red"))
        return self.paint(Padding(Group(*parts), (0, 0, 0, 2))) if parts else ""

    def plan(self, item: Json) -> str:
        lines = [
            Text.assemble(_STEPS.get(status, _STEPS["pending"]), " ", (text, "dim" if status == "completed" else ""))
            for status, text in story.plan_entries(item)
        ]
        return self.paint(Group(Text("Plan", style="bold"), *lines)) if lines else ""


def _last_reset(end: re.Match[str]) -> str:
    return "\x1b[0m" if "\x1b" in end[0] else ""


def _trimmed(painted: str) -> str:
    """Without the blank lines that Rich puts around some blocks: the view spaces all of them alike."""
    lines = painted.splitlines()
    while lines and not clean(lines[0]).strip():
        lines.pop(0)
    while lines and not clean(lines[-1]).strip():
        lines.pop()
    return "".join(line + "\n" for line in lines)


def terminal_size() -> tuple[int, int]:
    """(columns, rows) of the terminal now."""
    size = shutil.get_terminal_size()
    return size.columns, size.lines


def cell_width(line: str) -> int:
    """How many columns a drawn line takes."""
    from rich.cells import cell_len

    return cell_len(clean(line))


def _shortened(text: str) -> Text:
    lines = text.splitlines()
    shown = Text("\n".join(lines[:OUTPUT_LINES]), style="dim", no_wrap=True, overflow="ellipsis")
    if len(lines) > OUTPUT_LINES:
        shown.append(f"\n… {len(lines) - OUTPUT_LINES} more lines", style="dim italic")
    return shown


def _unseen(item: Json, seen: Container[tuple[str, ...]]) -> list[Diff]:
    return [diff for diff in story.diffs_of(item) if tuple(diff.body) not in seen]


def _diff(diff: Diff, title: str) -> Text:
    """With its path and counts above, unless the title has said which file it is."""
    painted = [] if diff.path in title else [Text(diff.path, style="bold").append_text(_counts(diff))]
    painted += [Text(line, style=_diff_style(line)) for line in diff.body[:DIFF_LINES]]
    if len(diff.body) > DIFF_LINES:
        painted.append(Text(f"… {len(diff.body) - DIFF_LINES} more lines", style="dim italic"))
    return Text("\n").join(painted)


def _counts(diff: Diff) -> Text:
    """``  +2 -1``, where there is something to count."""
    counts = [(sign, sum(line.startswith(sign) for line in diff.body)) for sign in "+-"]
    return Text.assemble("  ", *((f"{sign}{count} ", _diff_style(sign)) for sign, count in counts if count))


def _diff_style(line: str) -> str:
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "dim")
