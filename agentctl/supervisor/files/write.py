"""A file that appears whole or not at all. What is written before ``commit`` has no name that anyone could see, where
the system can do that: not even a kill leaves anything of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from agentctl import errors
from agentctl.supervisor.files import whole
from agentctl.supervisor.files.space import Place, told

_MOST_AT_ONCE = 1000  # of buffers in one writev; the limit is 1024
_UNNAMED_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_UNNAMED: int | None = getattr(os, "O_TMPFILE", None) if os.path.isdir("/proc/self/fd") else None
MODE_BITS = 0o777
"""No set-user-id, set-group-id or sticky bit is ever taken over from elsewhere."""


class NewFile:
    """Written beside ``place`` and put in its stead by ``commit``. Use as a context manager: left without ``commit``,
    nothing was changed. All methods block.

    The mode is ``mode``, else that of the file that is replaced, else what the umask leaves. Raise ``UsageError`` at
    once when what is there is not a regular file. ``expect`` is what the replaced file must still be at ``commit``,
    else ``Conflict``.
    """

    def __init__(self, place: Place, *, mode: int | None = None, expect: os.stat_result | None = None) -> None:
        self._place = place
        self._expect = expect
        self._temporary: str | None = None
        self._is_spooled = False
        with told(place.path):
            there = place.status_or_none()
            if there is not None and not stat.S_ISREG(there.st_mode):
                kind = "a directory, not a file" if stat.S_ISDIR(there.st_mode) else "not a regular file"
                raise errors.UsageError(f"{place.path} is {kind}.")
            self._fd = self._opened()
            if mode is None and there is not None:
                mode = there.st_mode
            if mode is not None:
                whole.set_mode(self._fd, mode & MODE_BITS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        if self._temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._temporary, dir_fd=self._place.directory)

    def write(self, buffers: Sequence[bytes | memoryview]) -> int:
        """Write all of ``buffers`` and return how many bytes that were. Raise ``DiskFull``."""
        with told(self._place.path):
            return sum(
                _written(self._fd, buffers[i : i + _MOST_AT_ONCE]) for i in range(0, len(buffers), _MOST_AT_ONCE)
            )

    def commit(self) -> None:
        """Let it appear under its name. Raise ``Conflict`` when the file there is another one by now."""
        place = self._place
        with told(place.path):
            if self._is_spooled:
                self._check()
                whole.write_from(self._fd, place.name, place.directory)
                return
            if self._temporary is None:
                self._temporary = temporary_name()
                os.link(f"/proc/self/fd/{self._fd}", self._temporary, dst_dir_fd=place.directory, follow_symlinks=True)
            self._check()
            os.rename(self._temporary, place.name, src_dir_fd=place.directory, dst_dir_fd=place.directory)
            self._temporary = None

    def _check(self) -> None:
        place = self._place
        if self._expect is not None and _changed(place.status_or_none(), self._expect):
            raise errors.Conflict(f"{place.path} was changed by someone else at the same time; nothing was done.")

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        if _UNNAMED is not None:
            try:
                return os.open(".", flags | _UNNAMED, 0o666, dir_fd=self._place.directory)
            except OSError as e:
                if e.errno not in _UNNAMED_UNSUPPORTED:
                    raise
        name = temporary_name()
        try:
            fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=self._place.directory)
        except OSError as e:
            spooled = whole.spool(self._place.directory) if e.errno in whole.UNABLE else None
            if spooled is None:
                raise
            self._is_spooled = True
            return spooled
        self._temporary = name
        return fd


def temporary_name() -> str:
    """A name for what is not finished, which ``is_temporary`` knows again."""
    return f".agentctl-{os.urandom(8).hex()}"


def is_temporary(name: str) -> bool:
    """Whether it is the name of something unfinished of ours: nobody wants a copy of it, least of all itself."""
    return name.startswith(".agentctl-") and len(name) == len(temporary_name())


def _written(fd: int, buffers: Sequence[bytes | memoryview]) -> int:
    whole = sum(map(len, buffers))
    done = os.writev(fd, buffers)
    if done < whole:  # the disk is nearly full, or a signal came: the next write tells which
        rest = memoryview(b"".join(buffers))[done:]
        while rest:
            rest = rest[os.write(fd, rest) :]
    return whole


def _changed(now: os.stat_result | None, expected: os.stat_result) -> bool:
    if now is None:
        return True
    fields = ("st_ino", "st_dev", "st_size", "st_mtime_ns")
    return any(getattr(now, name) != getattr(expected, name) for name in fields)
