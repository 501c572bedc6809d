"""Bytes → lines: split before decoding, so that no UTF-8 sequence is ever cut, with bounded memory."""

from __future__ import annotations

from typing import NamedTuple

HEAD_BYTES = 4096


class TooLong(NamedTuple):
    """A line that passed the limit and is skipped up to its newline; ``head`` is its beginning."""

    head: bytes


class LineSplitter:
    """Feed chunks, get complete lines without their newline. Holds at most ``max_bytes`` of an unfinished line."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes | TooLong]:
        """The lines that ``chunk`` completes. A too long line is told at once: its newline may never come."""
        first, *rest = chunk.split(b"\n")
        if not rest:
            return self._extend(first)
        lines: list[bytes | TooLong] = self._extend(first)
        if not self._skipping:
            lines.append(self._take())
        self._skipping = False
        tail = rest.pop()
        for line in rest:
            lines.append(line if len(line) <= self._max_bytes else TooLong(line[:HEAD_BYTES]))
        lines += self._extend(tail)
        return lines

    def finish(self) -> bytes:
        """What was read of a last line that never got its newline (``b""`` if nothing)."""
        return self._take()

    def _extend(self, part: bytes) -> list[bytes | TooLong]:
        if self._skipping:
            return []
        self._parts.append(part)
        self._size += len(part)
        if self._size <= self._max_bytes:
            return []
        self._skipping = True
        return [TooLong(self._take()[:HEAD_BYTES])]

    def _take(self) -> bytes:
        line = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._size = 0
        return line
