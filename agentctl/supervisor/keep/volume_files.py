"""Whole files on a volume that can do little else: written once from front to end, and removed."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agentctl.errors import LeaseLost, StateError

_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
_CLAIM = ".claim"
_FENCING = re.compile(r"(\d{1,20})\.claim|(\d{1,20})-\d{1,20}\.begin|[\d-]+\.(\d{1,20})\.[0-9a-f]{64}\.(?:kept|tgz)")


def write_file(path: Path, parts: Iterable[bytes]) -> int:
    """Write a file whole, over one of that name, which can only be a torn one; its size. Raise ``OSError``; nothing of
    it is left then, if the volume lets us."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            size = sum(_write_all(fd, part) for part in parts)
            _sync(fd)
        finally:
            os.close(fd)
        if os.stat(path).st_size != size:
            raise OSError(errno.EIO, "the volume did not take all of the file")
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        raise
    return size


def _write_all(fd: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    return len(data)


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in _NO_SYNC:
            raise


def remove(path: Path) -> None:
    """Removing a missing one succeeds."""
    with suppress(FileNotFoundError):
        os.unlink(path)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """What the volume refuses in this block is raised as ``StateError``."""
    try:
        yield
    except OSError as e:
        raise StateError(f"Cannot read {what} {path}: {e.strerror}", hint="Try again; nothing was changed.") from e


def names(directory: Path) -> list[str]:
    """What is in a directory, sorted; nothing in one that is missing."""
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


def claim(directory: Path, fencing: int) -> None:
    """Make the directory, and say in it that lower fencing numbers must stop. Raise ``LeaseLost`` when a higher one is
    at work there."""
    directory.mkdir(parents=True, exist_ok=True)
    with unless_taken_over(directory, fencing):
        write_file(directory / f"{fencing}{_CLAIM}", [b"\n"])
    _refuse_higher(directory, fencing)
    for name in names(directory):
        if name.endswith(_CLAIM) and fencing_in(name) < fencing:
            remove(directory / name)


@contextmanager
def unless_taken_over(directory: Path, fencing: int) -> Iterator[None]:
    """Raise ``LeaseLost`` when a higher number is at work here: before the block, and for a file that one takes away
    in it."""
    _refuse_higher(directory, fencing)
    try:
        yield
    except FileNotFoundError:
        _refuse_higher(directory, fencing)
        raise


def fencing_in(name: str) -> int:
    """The fencing number that a name bears; 0 for none."""
    found = _FENCING.fullmatch(name)
    return int(found[1] or found[2] or found[3]) if found else 0


def _refuse_higher(directory: Path, fencing: int) -> None:
    if any(fencing_in(name) > fencing for name in names(directory)):
        raise LeaseLost(
            f"Another supervisor has taken over what is kept in {directory}; this one may not write there any more.",
            hint="Do it again: the session lives in the other one's sandbox.",
        )
