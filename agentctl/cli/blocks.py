"""Streamed Markdown cut into blocks that will not change any more, and the tail that still may."""

from __future__ import annotations

import re
from typing import NamedTuple

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_HEADING = re.compile(r" {0,3}#{1,6} ")


class Block(NamedTuple):
    """``joined``: it goes on where the block before it was cut, so no space belongs between them."""

    text: str
    joined: bool = False


class Blocks:
    """Feed text; take the finished blocks; look at the tail."""

    def __init__(self) -> None:
        self._rest = ""
        self._joined = False

    def feed(self, text: str) -> None:
        self._rest += text

    @property
    def tail(self) -> Block:
        """What has come since the last finished block."""
        return Block(self._rest, self._joined)

    def take(self) -> list[Block]:
        """Remove and return the blocks that are finished: those followed by the start of another."""
        found: list[Block] = []
        while (end := _end_of_first(self._rest)) is not None:
            self._give(found, self._rest[:end])
            self._rest = self._rest[end:].lstrip("\n")
        return found

    def cut(self) -> list[Block]:
        """Remove and return what is shown already of a tail grown too long: all whole lines, or else whole words."""
        at = self._rest.rfind("\n") + 1 or self._rest.rfind(" ") + 1
        if not at:
            return []
        head, self._rest = self._rest[:at], self._rest[at:]
        fence = open_fence(head)
        found: list[Block] = []
        if fence:
            head, self._rest = f"{head}{fence[1]}\n", f"{fence[0]}\n{self._rest}"
        self._give(found, head)
        self._joined = True
        return found

    def finish(self) -> list[Block]:
        """Remove and return everything."""
        found = self.take()
        self._give(found, self._rest)
        self._rest = ""
        return found

    def _give(self, found: list[Block], text: str) -> None:
        if text.strip("\n"):
            found.append(Block(text.strip("\n"), self._joined))
            self._joined = False


def _end_of_first(text: str) -> int | None:
    """Where the first block ends, when it is certain that it does."""
    fence = ""
    position = 0
    blank_at: int | None = None
    for line in text.splitlines(keepends=True):
        whole = line.endswith("\n")
        if blank_at is not None and line.strip():
            if line[0] not in " \t":
                return blank_at
            blank_at = None  # an indented line goes on with its list item
        if fence:
            if whole and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                return position + len(line)
        elif whole and (opened := _FENCE.match(line.rstrip("\n"))):
            if position:
                return position
            fence = opened[1]
        elif whole and _HEADING.match(line):
            return position or len(line)
        elif whole and not line.strip() and position:
            blank_at = position
        position += len(line)
    return None


def open_fence(text: str) -> tuple[str, str] | None:
    """The opening line and the closing mark of a fence that is open at the end of ``text``."""
    opened: tuple[str, str] | None = None
    for line in text.splitlines():
        found = _FENCE.match(line)
        if not found:
            continue
        if opened is None:
            opened = (line, found[1])
        elif found[1].startswith(opened[1]) and not found[2].strip():
            opened = None
    return opened
