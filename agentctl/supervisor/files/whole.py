"""Where a volume takes whole files and nothing else (an object store): no renaming, no modes, nothing changed in place.

What other file systems do in one step is done there as well as can be: a file still appears whole or not at all, since
such a volume shows none before it is closed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from contextlib import suppress

UNABLE = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
_COPY_BYTES = 1024 * 1024
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def rename(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """``os.rename``; where that cannot be done, a copy, of which the original is removed when it is complete."""
    try:
        os.rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
    except OSError as e:
        if e.errno not in UNABLE:
            raise
        _copy(old, new, src_dir_fd, dst_dir_fd)
        if stat.S_ISDIR(os.stat(old, dir_fd=src_dir_fd, follow_symlinks=False).st_mode):
            shutil.rmtree(old, dir_fd=src_dir_fd)
        else:
            os.unlink(old, dir_fd=src_dir_fd)


def set_mode(fd: int, mode: int) -> None:
    """``os.fchmod`` of what is our own, where there are modes."""
    try:
        os.fchmod(fd, mode)
    except OSError as e:
        if e.errno not in UNABLE:
            raise


def set_times(fd: int, seconds: float) -> None:
    try:
        os.utime(fd, (seconds, seconds))
    except OSError as e:
        if e.errno not in UNABLE:
            raise


def spool(directory: int) -> int | None:
    """A file elsewhere, to be written to first, for a directory that takes no unfinished ones; None for one that takes
    none at all."""
    if not os.access(".", os.W_OK, dir_fd=directory):
        return None
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def write_from(fd: int, name: str, directory: int) -> None:
    """All that is in the file ``fd``, as a file of that name. What was there is gone when it fails on the way."""
    target = os.open(name, _NEW, 0o666, dir_fd=directory)
    try:
        offset = 0
        while data := os.pread(fd, _COPY_BYTES, offset):
            offset += len(data)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(target, rest) :]
    except BaseException:
        with suppress(OSError):
            os.close(target)
        with suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise
    os.close(target)


def _copy(old: str, new: str, source: int, target: int) -> None:
    if not stat.S_ISDIR(os.stat(old, dir_fd=source, follow_symlinks=False).st_mode):
        fd = os.open(old, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        try:
            write_from(fd, new, target)
        finally:
            os.close(fd)
        return
    os.mkdir(new, dir_fd=target)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    below = os.open(old, flags, dir_fd=source)
    try:
        beside = os.open(new, flags, dir_fd=target)
        try:
            for name in os.listdir(below):
                _copy(name, name, below, beside)
        finally:
            os.close(beside)
    finally:
        os.close(below)
