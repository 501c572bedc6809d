"""How many columns of a terminal a text takes: Chinese and emoji take two, combining marks none.

Rich knows this, too, and costs 40 ms to load: too much for a list that is there in a tenth of a second. Of an emoji
made of several, each counts: a terminal that joins them leaves a gap, and no row is ever wider than it is.
"""

from __future__ import annotations

from unicodedata import category, east_asian_width

_NOTHING = frozenset(("Mn", "Me", "Cf"))


def width(text: str) -> int:
    """The columns that one line of text takes."""
    return len(text) if text.isascii() else sum(map(_width_of, text))


def _width_of(character: str) -> int:
    if category(character) in _NOTHING:
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """``text`` in at most so many columns; an ellipsis stands where the rest was."""
    if width(text) <= columns:
        return text
    taken = end = 0
    for character in text:
        taken += _width_of(character)
        if taken > columns - 1:
            break
        end += 1
    return text[:end] + "…"


def padded(text: str, columns: int) -> str:
    """``text``, cut to so many columns or filled up to them."""
    text = cut(text, columns)
    return text + " " * (columns - width(text))
