"""A run of frames that differ in nothing but their text, as an agent's answer comes: only the first is parsed."""

from __future__ import annotations

import json
import re
from typing import Any

Json = dict[str, Any]
_plain = re.compile(rb'[^"\\\x00-\x1f]*').fullmatch
"""What stands in a JSON string for itself."""
_OTHER = "another text"


class TextRun:
    """What stands before and behind the text in each line."""

    __slots__ = ("_head", "_tail")

    def __init__(self, head: bytes, tail: bytes) -> None:
        self._head = head
        self._tail = tail

    @classmethod
    def of(cls, line: bytes, frame: Json, text: str) -> TextRun | None:
        """The run that a ``session/update`` begins with this ``text`` as its content; None when that cannot be told.

        Proven by another text in the same place: what is read then is the same frame with that text.
        """
        try:
            head, found, tail = line.rpartition(b'"%b"' % text.encode())
            run = cls(head + b'"', b'"' + tail)
            other = json.loads(run._head + _OTHER.encode() + run._tail)
            content = other["params"]["update"]["content"]
            is_there = found and content["text"] == _OTHER != text
            content["text"] = text
            return run if is_there and other == frame else None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def text(self, line: bytes) -> str | None:
        """The text of a line that goes on with the run; None for any other line, and for one with escapes."""
        head, tail = self._head, self._tail
        if not (line.startswith(head) and line.endswith(tail)):
            return None
        found = _plain(line, len(head), len(line) - len(tail))
        try:
            return found[0].decode() if found else None
        except UnicodeDecodeError:
            return None
