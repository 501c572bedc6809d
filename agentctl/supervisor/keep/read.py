"""From the pieces on a volume to a log directory as ``supervisor/log`` knows it: for a new supervisor, and for a host
that has fetched them from the volume of a dead one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agentctl.supervisor.keep.pieces import Chain, lines_of
from agentctl.supervisor.log.files import open_directory
from agentctl.supervisor.log.pages import list_segments, segment_path, sequence_of

SEGMENT_BYTES = 16 * 1024 * 1024
_LOOKS = 5
_SHARED = "sessions"


class Assembled(NamedTuple):
    """The last record's number, and why the log ends there though there is more: ``torn``, ``missing`` or None."""

    last: int
    problem: str | None


def assemble(kept: Path, target: Path) -> Assembled:
    """Make the log directory ``target`` of what was fetched from ``<to>/log``, logs of sessions that share the sandbox
    included; not when ``kept`` is missing. Segments that are in ``target`` already are replaced.

    A piece that is torn or missing ends the log before it, unless others have what was in it; the rest of it is in the
    store of whoever was streaming. Raise ``OSError``.
    """
    if not kept.is_dir():
        return Assembled(0, None)
    chain = read_into(target, kept)
    shared = kept / _SHARED
    for name in sorted(os.listdir(shared)) if shared.is_dir() else ():
        assemble(shared / name, target / _SHARED / name)
    return Assembled(chain.last, chain.problem)


def reaches(kept: Path) -> int:
    """The number of the last record that was kept there, whether or not it can still be read. Raise ``OSError``."""
    return Chain(kept).reaches


def read_into(target: Path, kept: Path) -> Chain:
    """The one log of ``kept`` as segments in ``target``. Raise ``OSError``."""
    for _ in range(_LOOKS - 1):
        with suppress(FileNotFoundError):  # its writer put pieces together meanwhile
            return _read_into(target, kept)
    return _read_into(target, kept)


def verified(kept: Path) -> Chain:
    """The log of ``kept``, read over and not written anywhere. Raise ``OSError``."""
    for look in range(_LOOKS):
        chain = Chain(kept)
        try:
            for _ in chain.read():
                pass
        except FileNotFoundError:
            if look + 1 == _LOOKS:
                raise
            continue
        break
    return chain


def _read_into(target: Path, kept: Path) -> Chain:
    open_directory(target)
    for segment in list_segments(target):
        segment.path.unlink()
    chain = Chain(kept)
    with _Segments(target) as segments:
        for data in chain.read():
            segments.take(data)
    return chain


class _Segments:
    """Writes records to segments; a gap in the numbers begins a new one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = -1
        self._size = 0
        self._next = 0

    def __enter__(self) -> _Segments:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def take(self, data: bytes) -> None:
        first, count = _number(data), data.count(b"\n")
        last = _number(data[data.rfind(b"\n", 0, len(data) - 1) + 1 :])
        if last - first + 1 == count:  # numbers rise, so none is missing
            self._write(first, count, data)
        else:
            for line in lines_of(data):
                self._write(_number(line), 1, line)

    def _write(self, first: int, count: int, data: bytes) -> None:
        if self._fd < 0 or first != self._next or self._size >= SEGMENT_BYTES:
            self._leave()
            path = segment_path(self._directory, first)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._size += len(data)
        self._next = first + count

    def _leave(self) -> None:
        if self._fd >= 0:
            try:
                os.fsync(self._fd)
            finally:
                os.close(self._fd)
        self._fd, self._size = -1, 0


def _number(line: bytes) -> int:
    number = sequence_of(line[:64])
    assert number is not None, "what has the right checksum is what was written"
    return number
