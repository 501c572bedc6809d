"""The files of one process's log: its output as it was, and an index that gives every piece a number and a time.

A directory holds ``stdout.log`` and ``stderr.log`` (``pty.log`` for a terminal), which are the bytes and nothing else,
and ``index``. When they are half of what the log may take, all get the suffix ``.1`` and new ones begin; those that had
the suffix before are gone. An index is 24 bytes a piece: stream, length, time, and place in the stream's file; its
first 24 bytes tell the number of its first piece.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

STREAMS = ("stdout", "stderr", "pty", "lost")
"""``lost`` is no file: its pieces say how many bytes could not be written (``length`` 0, the number in ``place``)."""

LOST = STREAMS.index("lost")
_RECORD = struct.Struct(">BxxxIQQ")
RECORD_BYTES = _RECORD.size
_HEADER = 255


class Piece(NamedTuple):
    """One line of an index."""

    stream: int
    length: int
    time_ms: int
    place: int


class Segment:
    """One generation of a log's files: pieces ``first`` to ``last``."""

    def __init__(self, directory: Path, suffix: str, first: int) -> None:
        self.directory = directory
        self.suffix = suffix
        self.first = first
        self.count = 0
        self.size = 0
        self._sizes: dict[int, int] = {}
        self._fds: dict[str, int] = {}

    @classmethod
    def create(cls, directory: Path, first: int) -> Segment:
        self = cls(directory, "", first)
        os.write(self._fd("index"), _RECORD.pack(_HEADER, 0, 0, first))
        return self

    @classmethod
    def find(cls, directory: Path, suffix: str) -> Segment | None:
        """The segment that an earlier supervisor left; None when there is none. A torn end is cut off."""
        index = directory / f"index{suffix}"
        try:
            data = index.read_bytes()
        except FileNotFoundError:
            return None
        if len(data) < RECORD_BYTES or data[0] != _HEADER:
            return None
        self = cls(directory, suffix, _RECORD.unpack_from(data)[3])
        self.count = len(data) // RECORD_BYTES - 1
        os.truncate(index, (self.count + 1) * RECORD_BYTES)
        for number, name in enumerate(STREAMS):
            with suppress(FileNotFoundError):
                self._sizes[number] = os.path.getsize(directory / f"{name}.log{suffix}")
        self.size = sum(self._sizes.values()) + self.count * RECORD_BYTES
        return self

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def append(self, stream: int, data: bytes, time_ms: int) -> int:
        """Write a piece; return how many of its bytes there was no room for."""
        written = 0
        try:
            fd = self._fd(f"{STREAMS[stream]}.log")
            while written < len(data):
                written += os.write(fd, data[written:])
        except OSError:
            pass  # the disk is full, or the directory is gone: what was written counts
        place = self._sizes.get(stream, 0)
        self._sizes[stream] = place + written
        if written and not self._note(Piece(stream, written, time_ms, place)):
            written = 0
        return len(data) - written

    def note_lost(self, count: int, time_ms: int) -> bool:
        """Put into the index that so many bytes are missing here; False when even that does not fit."""
        return self._note(Piece(LOST, 0, time_ms, count))

    def _note(self, piece: Piece) -> bool:
        try:
            if os.write(self._fd("index"), _RECORD.pack(*piece)) < RECORD_BYTES:
                os.truncate(self._path("index"), (self.count + 1) * RECORD_BYTES)
                return False
        except OSError:
            return False
        self.count += 1
        self.size += piece.length + RECORD_BYTES
        return True

    def pieces(self, start: int, most: int) -> list[Piece]:
        """The pieces from number ``start`` on, at most so many."""
        skipped = start - self.first
        most = min(most, self.count - skipped)
        if most <= 0:
            return []
        with open(self._path("index"), "rb", buffering=0) as file:
            data = os.pread(file.fileno(), most * RECORD_BYTES, (skipped + 1) * RECORD_BYTES)
        return [Piece(*fields) for fields in _RECORD.iter_unpack(data[: len(data) // RECORD_BYTES * RECORD_BYTES])]

    def reader(self) -> SegmentReader:
        return SegmentReader(self)

    def age(self) -> None:
        """Become the older generation, in place of the one before."""
        self.close()
        for name in [*(f"{s}.log" for s in STREAMS), "index"]:
            with suppress(FileNotFoundError):
                os.unlink(self.directory / f"{name}.1")
        for name in [*(f"{s}.log" for s in STREAMS), "index"]:
            with suppress(FileNotFoundError):
                os.rename(self.directory / name, self.directory / f"{name}.1")
        self.suffix = ".1"

    def close(self) -> None:
        fds, self._fds = self._fds, {}
        for fd in fds.values():
            os.close(fd)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}{self.suffix}"

    def _fd(self, name: str) -> int:
        if name not in self._fds:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._fds[name] = os.open(self._path(name), flags, 0o600)
        return self._fds[name]


class SegmentReader:
    """Reads the bytes of pieces; ``with`` closes its files."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._fds: dict[int, int] = {}

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds.values():
            os.close(fd)

    def data(self, piece: Piece) -> bytes:
        if not piece.length:
            return b""
        if piece.stream not in self._fds:
            path = self._segment.directory / f"{STREAMS[piece.stream]}.log{self._segment.suffix}"
            self._fds[piece.stream] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._fds[piece.stream], piece.length, piece.place)


def backwards(segments: list[Segment]) -> Iterator[tuple[int, Piece, Segment]]:
    """Every piece with its number, the latest first."""
    for segment in reversed(segments):
        pieces = segment.pieces(segment.first, segment.count)
        for at in range(len(pieces) - 1, -1, -1):
            yield segment.first + at, pieces[at], segment
