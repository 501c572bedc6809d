"""The files of a log as its writer holds them: the active segment, and writes that happen whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentctl.errors import AgentctlError, DiskFull, StateError, StateNotWritable
from agentctl.supervisor.log.pages import Segment, segment_path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


def refused(error: OSError, path: Path, what: str = "the session log") -> AgentctlError:
    """Our error for what the file system said."""
    if error.errno in _FULL:
        return DiskFull(
            f"Cannot write {what} {path}: {error.strerror}",
            hint="Free some space; nothing that was written before is lost.",
        )
    if error.errno in _FORBIDDEN:
        return StateNotWritable(
            f"Cannot write {what} {path}: {error.strerror}", hint="Make its directory writable for this user."
        )
    return StateError(f"Cannot write {what} {path}: {error.strerror}")


@contextmanager
def said_as_ours(path: Path, what: str = "the session log") -> Iterator[None]:
    """What the file system refuses in this block is raised as our error."""
    try:
        yield
    except OSError as e:
        raise refused(e, path, what) from e


def open_directory(directory: Path) -> None:
    """Make the log's directory, private to its owner."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


def sync(fd: int) -> None:
    """To the disk itself, also on macOS, where fsync stops at the drive's cache."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(fd)
    else:
        fcntl.fcntl(fd, full)


class SegmentWriter:
    """Writes to the newest of ``segments`` and begins new ones. A failed write leaves the file as it was."""

    def __init__(self, directory: Path, segments: list[Segment], max_bytes: int) -> None:
        self._directory = directory
        self._segments = segments
        self._max_bytes = max_bytes
        self._fd = -1
        self._size = 0
        self._broken = False
        self._unsynced: list[int] = []
        self._new_names = True  # after a crash the last segment's name may not be on the disk yet
        if segments:
            self._open(segments[-1], os.O_CREAT)

    def write(self, data: bytes, first: int, *, durable: bool) -> None:
        """Append ``data``, whose first record is ``first``; all or nothing. Raise ``DiskFull`` or ``StateError``."""
        if self._broken:
            raise StateError(f"The session log {self._directory} could not be mended after a failed write.")
        with said_as_ours(self._directory):
            if self._fd < 0 or (self._size and self._size + len(data) > self._max_bytes):
                self.rotate(first)
            try:
                _write_all(self._fd, data)
                if durable:
                    self.sync()
            except OSError:
                self._take_back()
                raise
        self._size += len(data)

    def _take_back(self) -> None:
        self._broken = True
        os.ftruncate(self._fd, self._size)
        self._broken = False

    def rotate(self, first: int) -> None:
        """Begin a new segment, unless the active one is empty and already bears that number."""
        if self._fd >= 0 and self._size == 0:
            if self._segments[-1].first == first:
                return
            os.unlink(self._segments.pop().path)
        segment = Segment(first, segment_path(self._directory, first))
        self._open(segment, os.O_CREAT | os.O_EXCL)
        self._segments.append(segment)
        self._new_names = True

    def sync(self) -> None:
        """Everything written so far, and the names of new segments, to the disk."""
        while self._unsynced:
            sync(self._unsynced[-1])
            os.close(self._unsynced.pop())
        if self._fd >= 0:
            if os.fstat(self._fd).st_nlink == 0:  # its volume was deleted: what is written here nobody will ever read
                raise FileNotFoundError(errno.ENOENT, "the file was deleted")
            sync(self._fd)
        if self._new_names:
            _sync_directory(self._directory)
            self._new_names = False

    def close(self) -> None:
        for fd in [*self._unsynced, self._fd]:
            if fd >= 0:
                os.close(fd)
        self._unsynced, self._fd = [], -1

    def _open(self, segment: Segment, flags: int) -> None:
        fd = os.open(segment.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)
        if self._fd >= 0:
            self._unsynced.append(self._fd)
        self._fd, self._size = fd, os.fstat(fd).st_size


def _write_all(fd: int, data: bytes) -> None:
    """One ``write`` as a rule; the kernel may take less of a huge or a last piece."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
