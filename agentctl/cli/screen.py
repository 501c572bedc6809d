"""The lower end of a terminal: text printed for good, and below it a tail that is redrawn in place, without flicker.

Lines are finished ANSI text, narrower than the terminal. Only lines that changed are written, over the old ones, in
one write: nothing is blanked first, so nothing flickers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_CLEAR_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"


class Screen:
    """``write`` sends text to the terminal; ``size`` is its (columns, rows) now; ``width_of`` measures a drawn line."""

    def __init__(
        self, write: Callable[[str], None], size: Callable[[], tuple[int, int]], width_of: Callable[[str], int]
    ) -> None:
        self._write = write
        self._size = size
        self._width_of = width_of
        self._tail: list[str] = []
        self._drawn_columns = 0

    def draw(self, tail: Sequence[str], permanent: str = "") -> None:
        """Print ``permanent`` (whole lines, or nothing) above the tail; show ``tail``, cut to the screen's height."""
        columns, rows = self._size()
        shown = list(tail)[-max(1, rows - 1) :]
        resized = columns != self._drawn_columns and self._drawn_columns > 0
        same = 0 if permanent or resized else _common(self._tail, shown)
        if not permanent and same == len(shown) == len(self._tail):
            return
        keep = min(same, max(0, len(shown) - 1))
        lines = "\n".join(line + _CLEAR_LINE for line in shown[keep:])
        self._write(self._to_line(keep, columns) + _overwriting(permanent) + lines + _CLEAR_BELOW)
        self._tail = shown
        self._drawn_columns = columns

    def _to_line(self, index: int, columns: int) -> str:
        """From the end of the tail to the start of its line ``index``, which may be the first below it."""
        if not self._tail:
            return ""
        if index == len(self._tail):
            return "\n"
        heights = [max(1, -(-self._width_of(line) // max(1, columns))) for line in self._tail[index:]]
        up = sum(heights) - 1
        return f"\x1b[{up}A\r" if up else "\r"


def _common(old: Sequence[str], new: Sequence[str]) -> int:
    return next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))


def _overwriting(permanent: str) -> str:
    return permanent.replace("\n", f"{_CLEAR_LINE}\n")
