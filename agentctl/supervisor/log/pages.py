"""How a page of a log is found and read: segments by name, then binary search over byte offsets, no JSON parsing.

A segment is a file named by the number of its first record (``00000000000000000001.jsonl``). Inside a segment numbers
rise by one from line to line, because a gap always begins a new segment: so only the place of a page's first record has
to be searched, and the rest is counting.
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

PAGE_BYTES = 256 * 1024
SUFFIX = ".jsonl"
HEAD = b'{"sequence":'
_LINEAR_BYTES = 64 * 1024
_PROBE_BYTES = 4 * 1024


class Record(NamedTuple):
    """A record as read: its number, the event JSON's bytes, and the raw frame when it was asked for and is there."""

    sequence: int
    line: bytes
    raw: bytes | None


class Segment(NamedTuple):
    first: int
    path: Path


def list_segments(directory: Path) -> list[Segment]:
    """The segments of a log, oldest first; ``[]`` when the directory is missing."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    stems = ((name, name[: -len(SUFFIX)]) for name in names if name.endswith(SUFFIX))
    return [Segment(int(stem), directory / name) for name, stem in stems if stem.isdecimal()]


def segment_path(directory: Path, first: int) -> Path:
    return directory / f"{first:020d}{SUFFIX}"


def sequence_of(line: bytes) -> int | None:
    """The number that a record's line begins with; None when it is no record."""
    digits = line[len(HEAD) : len(HEAD) + 24].partition(b",")[0]
    return int(digits) if line.startswith(HEAD) and digits.isdigit() else None


class Cursor:
    """A place in a log. It keeps its file open and its position, so that going on costs no search.

    ``segments`` is shared with its owner, who appends to it; a cursor only looks.
    """

    def __init__(self, segments: list[Segment], after: int) -> None:
        self._segments = segments
        self.after = after
        self._segment: Segment | None = None
        self._fd = -1
        self._offset = 0
        self._next = after + 1

    def page(self, last: int, *, limit: int | None = None, max_bytes: int = PAGE_BYTES, raw: bool) -> list[Record]:
        """The next records up to number ``last``; ``[]`` when there are none now."""
        first, lines = self._lines(last, limit, max_bytes)
        return _records(first, lines, raw) if lines else []

    def copy(self, last: int, *, max_bytes: int = PAGE_BYTES) -> bytes:
        """The same as they are in the file; ``after`` is the number of the last of them then."""
        _, lines = self._lines(last, None, max_bytes)
        return b"\n".join([*lines, b""])

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._segment = -1, None

    def _place(self) -> bool:
        """Be at the first record after ``self.after``, searching only when there is no place yet."""
        if self._segment is None:
            index = max(bisect_right(self._segments, self.after + 1, key=lambda s: s.first) - 1, 0)
            if index < len(self._segments):
                self._open(self._segments[index])
                self._seek(self.after + 1)
        return self._segment is not None

    def _next_segment(self) -> bool:
        assert self._segment is not None
        index = bisect_right(self._segments, self._segment.first, key=lambda s: s.first)
        if index == len(self._segments):
            return False
        self._open(self._segments[index])
        return True

    def _end(self) -> int:
        """The last number that this segment may hold: what a writer that lost the log wrote after it is not there."""
        assert self._segment is not None
        index = bisect_right(self._segments, self._segment.first, key=lambda s: s.first)
        return self._segments[index].first - 1 if index < len(self._segments) else sys.maxsize

    def _open(self, segment: Segment) -> None:
        fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        self.close()
        self._fd, self._segment, self._offset, self._next = fd, segment, 0, segment.first

    def _seek(self, sequence: int) -> None:
        """Stand before ``sequence``, or at the file's end when it holds only smaller ones."""
        low, low_sequence, high = 0, self._next, os.fstat(self._fd).st_size
        while high - low > _LINEAR_BYTES:
            middle = (low + high) // 2
            start = _line_start(self._fd, middle, high)
            found = None if start is None else sequence_of(os.pread(self._fd, 64, start))
            if start is None or found is None or found > sequence:
                high = middle
            else:
                low, low_sequence = start, found
        self._offset, self._next = low, low_sequence
        self._skip(sequence - low_sequence)

    def _skip(self, count: int) -> None:
        """Go ``count`` whole lines forward, or as many as there are."""
        while count > 0:
            lines, size = _whole_lines(self._fd, self._offset, _LINEAR_BYTES)
            if not lines:
                return
            step = min(count, len(lines))
            self._offset += size if step == len(lines) else sum(map(len, lines[:step])) + step
            self._next += step
            count -= step

    def _lines(self, last: int, limit: int | None, max_bytes: int) -> tuple[int, list[bytes]]:
        """The next records as lines, and the first one's number."""
        while self.after < last and self._place():
            first, lines = self._next, self._read(last, limit, max_bytes)
            if lines:
                self.after = self._next - 1
                return first, lines
            if not self._next_segment():
                break
        return 0, []

    def _read(self, last: int, limit: int | None, max_bytes: int) -> list[bytes]:
        last = min(last, self._end())
        if self._next > last:
            return []
        lines, size = _whole_lines(self._fd, self._offset, max_bytes)
        allowed = max(min(len(lines), last - self._next + 1, len(lines) if limit is None else limit), 0)
        if allowed < len(lines):
            lines = lines[:allowed]
            size = sum(map(len, lines)) + allowed
        self._offset += size
        self._next += allowed
        return lines


def _records(first: int, lines: list[bytes], raw: bool) -> list[Record]:
    numbers = range(first, first + len(lines))
    if raw:
        parts = [line.partition(b"\t") for line in lines]
        return [Record(n, line, frame if tab else None) for n, (line, tab, frame) in zip(numbers, parts, strict=True)]
    return list(map(Record, numbers, [line.partition(b"\t")[0] for line in lines], repeat(None)))


def _whole_lines(fd: int, offset: int, size: int) -> tuple[list[bytes], int]:
    """The whole lines within ``size`` bytes from ``offset``, at least one when there is one, and how long they are."""
    while True:
        chunk = os.pread(fd, size, offset)
        end = chunk.rfind(b"\n")
        if end >= 0:
            return chunk[:end].split(b"\n"), end + 1
        if len(chunk) < size:
            return [], 0
        size *= 4


def _line_start(fd: int, offset: int, end: int) -> int | None:
    """Where the first line begins that starts after ``offset`` and before ``end``."""
    size = _PROBE_BYTES
    while offset < end:
        chunk = os.pread(fd, size, offset)
        newline = chunk.find(b"\n")
        if newline >= 0:
            return offset + newline + 1 if offset + newline + 1 < end else None
        if not chunk:
            return None
        offset += len(chunk)
        size = min(size * 4, 1024 * 1024)
    return None
