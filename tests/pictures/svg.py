"""What a terminal showed, as an SVG that loads nothing from anywhere."""

from __future__ import annotations

import html
import io
import re
from itertools import groupby
from typing import Any

import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.style import Style
from rich.text import Text

_COLOURS = {"brown": "yellow"}
_FORMAT = (
    re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    .replace("Fira Code, monospace", "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace")
    .replace("<svg ", '<svg xml:space="preserve" ')
)


class _Screen(pyte.Screen):
    """Knows faint text, as ``blink``, which nobody uses."""

    def select_graphic_rendition(self, *attrs: int, **more: Any) -> None:
        indexed = {38, 48} & set(attrs)
        given = [5 if a == 2 else a for a in attrs] if not indexed else attrs
        super().select_graphic_rendition(*given, *([25] if 22 in attrs and not indexed else []), **more)


def shown(raw: bytes, columns: int, rows: int = 100) -> Text:
    """The screen after these bytes, without the empty lines at its end."""
    screen = _Screen(columns, rows)
    pyte.ByteStream(screen).feed(raw)
    lines = [_line(screen.buffer[y], columns) for y in range(rows)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    return Text("\n").join(lines)


def _line(cells: Any, columns: int) -> Text:
    runs = groupby((cells[x] for x in range(columns)), key=_style)
    line = Text.assemble(*(("".join(cell.data for cell in run), style) for style, run in runs))
    line.rstrip()
    return line


def _style(cell: Any) -> Style:
    colour = _COLOURS.get(cell.fg, cell.fg)
    bright = colour.replace("bright", "bright_") if colour.startswith("bright") else colour
    return Style(
        color=f"#{bright}" if re.fullmatch(r"[0-9a-f]{6}", bright) else bright,
        bold=cell.bold,
        italic=cell.italics,
        underline=cell.underscore,
        dim=cell.blink,
    )


def drawn(text: Text, name: str, columns: int) -> str:
    """The SVG; ``name`` makes its ids its own on a page with others."""
    console = Console(record=True, width=columns, file=io.StringIO(), legacy_windows=False)
    console.print(text, soft_wrap=True)
    picture = console.export_svg(title="agentctl", code_format=_FORMAT, unique_id=name)
    return "\n".join(line.rstrip() for line in picture.splitlines()) + "\n"


def words(picture: str) -> list[str]:
    """All that is written in an SVG, so that two can be compared whatever draws them."""
    return [html.unescape(found).replace("\xa0", " ") for found in re.findall(r"<text[^>]*>([^<]*)</text>", picture)]
