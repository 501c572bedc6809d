"""Rich as a painter: text, tools, diffs and plans in, finished ANSI lines out. The only module that imports Rich."""

from __future__ import annotations

import io
import shutil
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markdown import Markdown
from rich.padding import Padding
from rich.text import Text

from agentctl.cli import story
from agentctl.cli.story import Diff
from agentctl.cli.untrusted import clean, one_line

Json = dict[str, Any]

_MARKS = {"in_progress": ("●", "yellow"), "completed": ("✓", "green"), "failed": ("✗", "red")}
_STEPS = {"completed": ("✓", "green"), "in_progress": ("▸", "yellow"), "pending": ("○", "dim")}
_STYLES = {"": "", "dim": "dim", "warning": "yellow", "error": "bold red", "good": "green", "bold": "bold"}
OUTPUT_LINES = 8
DIFF_LINES = 60


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
        )
        if color and self._console.color_system is None:  # FORCE_COLOR with an unknown TERM
            self._console = Console(file=self._buffer, force_terminal=True, color_system="standard", markup=False)

    def paint(self, renderable: RenderableType) -> str:
        """ANSI text of whole lines, each narrower than the terminal."""
        self._console.width = max(20, terminal_size()[0] - 1)
        self._console.print(renderable)
        text = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return text

    def markdown(self, text: str) -> str:
        """An answer. Links show where they lead, rather than hiding it behind their text."""
        return _trimmed(self.paint(Markdown(text, code_theme="ansi_dark", hyperlinks=False)))

    def thought(self, text: str) -> str:
        return self.paint(Text(text.strip("\n"), style="dim italic"))

    def user(self, text: str) -> str:
        return self.paint(Text.assemble(("› ", "bold cyan"), (text, "bold")))

    def note(self, line: str, style: str) -> str:
        return self.paint(Text(line, style=_STYLES[style]))

    def tool(self, item: Json) -> str:
        """The line of a tool call; its diffs and its own output when it is over."""
        mark, style = _MARKS[item["status"]]
        parts: list[RenderableType] = [Text.assemble((mark, style), " ", (story.tool_title(item), "bold"))]
        if item["status"] != "in_progress":
            parts += [Padding(_diff(d, DIFF_LINES), (0, 0, 0, 2)) for d in story.diffs_of(item)]
        return self.paint(Group(*parts))

    def output(self, item: Json) -> str:
        """The first lines of what a tool gave back, and its diffs."""
        parts: list[RenderableType] = [_diff(d, DIFF_LINES) for d in story.diffs_of(item)]
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

    def diff(self, diff: Diff, limit: int = DIFF_LINES) -> str:
        return self.paint(_diff(diff, limit))


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

    return cell_len(one_line(line, 10_000))


def _shortened(text: str) -> Text:
    lines = text.splitlines()
    shown = Text("\n".join(lines[:OUTPUT_LINES]), style="dim", no_wrap=True, overflow="ellipsis")
    if len(lines) > OUTPUT_LINES:
        shown.append(f"\n… {len(lines) - OUTPUT_LINES} more lines", style="dim italic")
    return shown


def _diff(diff: Diff, limit: int) -> Text:
    body = [line for line in diff.lines if not line.startswith(("--- ", "+++ "))]
    painted = Text(diff.path, style="bold")
    for line in body[:limit]:
        painted.append("\n" + line, style=_diff_style(line))
    if len(body) > limit:
        painted.append(f"\n… {len(body) - limit} more lines", style="dim italic")
    return painted


def _diff_style(line: str) -> str:
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "dim")
