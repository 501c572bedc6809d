"""Unified diffs of what an agent edited, in bounded time and size whatever the files are."""

from __future__ import annotations

import difflib
from typing import Any

Json = dict[str, Any]

MAX_READ_CHARS = 4 * 1024 * 1024
MAX_COMPARED_LINES = 2000
MAX_DIFF_LINES = 5000
MAX_DIFF_CHARS = 256 * 1024
_CONTEXT = 3


def file_ref(path: str, old: str | None, new: str) -> Json:
    """The content part of an edit: ``{"type": "file_ref", "path", "action": "write"|"patch", "diff"}``.

    ``old`` is ``None`` for a new file. A diff too big to be read is cut, and ``"truncated": true`` says so.
    """
    diff, truncated = unified_diff(path, old, new)
    part: Json = {"type": "file_ref", "path": path, "action": "write" if old is None else "patch", "diff": diff}
    return {**part, "truncated": True} if truncated else part


def unified_diff(path: str, old: str | None, new: str) -> tuple[str, bool]:
    """The unified diff, and whether it was cut.

    What both texts share at their beginning and end is left out first, so that a small change in a huge file is
    cheap. Where more than 2,000 lines remain they are shown as replaced, since comparing them may take minutes; of
    texts over 4 MiB only the header is given.
    """
    header = ["--- /dev/null\n" if old is None else f"--- {path}\n", f"+++ {path}\n"]
    if len(old or "") + len(new) > MAX_READ_CHARS:
        return "".join(header), True
    before, after = _lines(old or ""), _lines(new)
    skip = _common_prefix(before, after)
    tail = _common_prefix(before[skip:][::-1], after[skip:][::-1])
    first = max(0, skip - _CONTEXT)
    before, after = (side[first : len(side) - max(0, tail - _CONTEXT)] for side in (before, after))
    if len(before) + len(after) <= MAX_COMPARED_LINES:
        hunks = list(difflib.unified_diff(before, after, n=_CONTEXT))[2:]
        hunks = [_shifted(line, first) if line.startswith("@@") else line for line in hunks]
    else:
        hunks = _replaced(before, after, first)
    if not hunks:
        return "", False
    return _bounded(header + hunks)


def _lines(text: str) -> list[str]:
    """Split at newlines only: ``str.splitlines`` also splits at form feeds and other things files may hold."""
    *lines, last = text.split("\n")
    return [f"{line}\n" for line in lines] + ([last] if last else [])


def _common_prefix(a: list[str], b: list[str]) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


def _shifted(header: str, by: int) -> str:
    """``@@ -1,3 +1,4 @@`` with the lines counted from the file's beginning."""
    _, old, new, _ = header.split(" ", 3)
    moved = []
    for part in (old, new):
        start, comma, count = part[1:].partition(",")
        moved.append(f"{part[0]}{int(start) + by}{comma}{count}")
    return f"@@ {moved[0]} {moved[1]} @@\n"


def _replaced(before: list[str], after: list[str], first: int) -> list[str]:
    """All of the old lines out, all of the new ones in. An empty side counts from the line before it."""
    old, new = (f"{first + bool(side)},{len(side)}" for side in (before, after))
    header = f"@@ -{old} +{new} @@\n"
    return [header, *(f"-{line}" for line in before), *(f"+{line}" for line in after)]


def _bounded(lines: list[str]) -> tuple[str, bool]:
    """A last line without newline gets the marker that ``patch`` knows."""
    shown = [
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines[:MAX_DIFF_LINES]
    ]
    text = "".join(shown)
    if len(lines) <= MAX_DIFF_LINES and len(text) <= MAX_DIFF_CHARS:
        return text, False
    return text[:MAX_DIFF_CHARS], True
