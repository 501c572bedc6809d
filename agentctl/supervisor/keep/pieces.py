"""The pieces of a kept log, and which of them make the log: found by name, believed by checksum.

A writer begins after the record ``held`` that it found as the last one, and says so before it writes. What lower
fencing numbers wrote after that record, even later, is not in the log.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agentctl.supervisor.keep.volume_files import names
from agentctl.supervisor.log.pages import sequence_of

_PIECE = re.compile(r"(\d{20})-(\d{20})\.(\d{1,20})\.([0-9a-f]{64})\.kept")
_BEGIN = re.compile(r"(\d{1,20})-(\d{1,20})\.begin")
_NO_LIMIT = 10**20


class Piece(NamedTuple):
    """The records after number ``after`` up to ``last``, written under a fencing number."""

    after: int
    last: int
    fencing: int
    digest: str
    path: Path


class Begin(NamedTuple):
    fencing: int
    held: int
    path: Path


class Used(NamedTuple):
    """What of a piece is in the log, and how many bytes that is."""

    after: int
    last: int
    size: int
    piece: Piece


def piece_of(directory: Path, after: int, last: int, fencing: int, data: bytes) -> Piece:
    digest = hashlib.sha256(data).hexdigest()
    return Piece(after, last, fencing, digest, directory / f"{after:020d}-{last:020d}.{fencing}.{digest}.kept")


def begin_path(directory: Path, fencing: int, held: int) -> Path:
    return directory / f"{fencing}-{held}.begin"


class Chain:
    """The log that the pieces in a directory make. ``read`` it to its end, then look at the rest.

    ``last`` is its last record's number, ``used`` the pieces it is made of, ``torn`` those that are not what their name
    says, ``problem`` why the log ends where it does though there is more: ``torn`` or ``missing``, else None.
    """

    def __init__(self, directory: Path) -> None:
        listed = names(directory)
        self.pieces = [
            Piece(int(m[1]), int(m[2]), int(m[3]), m[4], directory / m[0]) for m in map(_PIECE.fullmatch, listed) if m
        ]
        self.begins = [Begin(int(m[1]), int(m[2]), directory / m[0]) for m in map(_BEGIN.fullmatch, listed) if m]
        self.used: list[Used] = []
        self.torn: list[Piece] = []
        self.last = 0
        self.problem: str | None = None
        self._left = sorted(self.pieces, key=lambda p: (p.fencing, p.last), reverse=True)

    @property
    def fencing(self) -> int:
        """Of the last writer that began."""
        return max((begin.fencing for begin in self.begins), default=0)

    @property
    def reaches(self) -> int:
        """The number of the last record that any piece is said to have."""
        return max((min(piece.last, self._limit(piece)) for piece in self.pieces), default=0)

    def read(self) -> Iterator[bytes]:
        """The whole records in their order, some at a time. Raise ``FileNotFoundError`` when a piece was removed
        meanwhile: another one has what was in it."""
        while (piece := self._next()) is not None:
            self._left.remove(piece)
            data = piece.path.read_bytes()
            if hashlib.sha256(data).hexdigest() != piece.digest:
                self.torn.append(piece)
                continue
            data = _between(data, piece, self.last, self._limit(piece))
            if data:
                after, self.last = self.last, _last_number(data)
                self.used.append(Used(after, self.last, len(data), piece))
                yield data
        if any(self._reaches_on(piece) for piece in self.torn):
            self.problem = "torn"
        elif any(min(piece.last, self._limit(piece)) > max(self.last, piece.after) for piece in self._left):
            self.problem = "missing"

    def _next(self) -> Piece | None:
        return next((piece for piece in self._left if self._reaches_on(piece)), None)

    def _reaches_on(self, piece: Piece) -> bool:
        return piece.after <= self.last < min(piece.last, self._limit(piece))

    def _limit(self, piece: Piece) -> int:
        return min((begin.held for begin in self.begins if begin.fencing > piece.fencing), default=_NO_LIMIT)


def _between(data: bytes, piece: Piece, after: int, limit: int) -> bytes:
    """The records above ``after`` and up to ``limit``."""
    if piece.after >= after and piece.last <= limit:
        return data
    return b"".join(line for line in lines_of(data) if after < (sequence_of(line) or 0) <= limit)


def lines_of(data: bytes) -> list[bytes]:
    """The records of a piece, each with its newline."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def _last_number(data: bytes) -> int:
    start = data.rfind(b"\n", 0, len(data) - 1) + 1
    return sequence_of(data[start : start + 64]) or 0
