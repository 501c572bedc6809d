"""Paths that a caller names, made safe to use: where each lies, opened so that nothing can be swapped on the way.

A relative path lies below ``base`` and must not leave it by ``..``; an absolute one is taken as it is. With a ``root``
neither may end outside of that directory, links resolved. A path is resolved once; then its directory is opened from
the root down, one name at a time and never through a link. So a directory that is replaced by a link between the look
and the use is an error, not a way out.

Names are bytes to the system. Here they are text with ``surrogateescape``: the byte 0xFF is ``\\udcff``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from agentctl import errors

_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_PARENT_MODE = 0o777
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_SENSELESS = {
    errno.EISDIR: "is a directory, not a file",
    errno.ENOTDIR: "is not a directory, or a part of it is none",
    errno.ELOOP: "goes round in circles by its symbolic links, or was replaced by one just now",
    errno.ENAMETOOLONG: "is too long a path",
    errno.EXDEV: "lies on another file system than its new place: copy it there, then remove it",
    errno.EINVAL: "cannot be used that way",
    errno.ENXIO: "is not a regular file",
}


class Place:
    """One entry of an open directory: ``name`` in ``directory`` (a file descriptor). ``path`` is where it lies, to be
    shown. Use as a context manager."""

    __slots__ = ("directory", "name", "path")

    def __init__(self, directory: int, name: str, path: str) -> None:
        self.directory = directory
        self.name = name
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.directory)

    def status(self) -> os.stat_result:
        """Of the entry itself: a link is not followed."""
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def status_or_none(self) -> os.stat_result | None:
        try:
            return self.status()
        except FileNotFoundError:
            return None

    @property
    def is_top(self) -> bool:
        """Whether it is the root itself, which can be neither moved nor removed."""
        return self.name == "."


class FileSpace:
    """What may be reached: ``base`` is where relative paths begin, ``root`` the directory to stay in, if there is one.
    With ``loose`` relative paths may leave the base by ``..``, as a shell's do.

    Both methods give a ``Place`` and raise ``UsageError`` for a path that leaves the root or the base, has a NUL or is
    no text of the file system, ``PathNotFound`` and ``PermissionDenied`` for its directory.
    """

    def __init__(self, base: str, root: str | None = None, *, loose: bool = False) -> None:
        self.base = base
        self.root = root
        self._loose = loose

    def entry(self, path: str, *, make_parents: bool = False) -> Place:
        """The entry of that name itself, be it a link."""
        return self._place(path, follow=False, make_parents=make_parents)

    def target(self, path: str, *, make_parents: bool = False) -> Place:
        """What the path leads to, where it is a link."""
        return self._place(path, follow=True, make_parents=make_parents)

    def _place(self, path: str, *, follow: bool, make_parents: bool) -> Place:
        with told(path):
            real = _real(self._absolute(path), follow=follow)
            top = os.path.realpath(self.root) if self.root is not None else "/"
            if real != top and not real.startswith(top.rstrip("/") + "/"):
                raise errors.UsageError(
                    f"{path} is outside of {self.root}, the directory that these files are confined to."
                )
            parts = [part for part in real[len(top) :].split("/") if part]
            directory = open_below(os.open(top, _DIRECTORY), parts[:-1], make=make_parents)
        return Place(directory, parts[-1] if parts else ".", real)

    def _absolute(self, path: str) -> str:
        if "\0" in path:
            raise errors.UsageError(f"{path!r} has a NUL in it, which no path can have.")
        try:
            os.fsencode(path)
        except UnicodeEncodeError as e:
            raise errors.UsageError(f"{path!r} cannot be a path: it has a lone surrogate.") from e
        if path.startswith("/"):
            return path
        if not self._loose and os.path.normpath(path).split("/")[0] == "..":
            hint = "Give an absolute path." if self.root is None else None
            raise errors.UsageError(f"{path} leaves {self.base}.", hint=hint)
        return os.path.join(self.base, path)


def _real(path: str, *, follow: bool) -> str:
    parent, name = os.path.split(path.rstrip("/"))
    if follow or name in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(parent), name)


def open_below(directory: int, parts: list[str], *, make: bool = False) -> int:
    """The directory ``parts`` below an open one, which is closed. No link is followed; ``make`` makes what is missing.
    Raise ``OSError``."""
    try:
        for part in parts:
            deeper = _opened(directory, part, make)
            os.close(directory)
            directory = deeper
    except BaseException:
        os.close(directory)
        raise
    return directory


def _opened(directory: int, name: str, make: bool) -> int:
    try:
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):  # another one made it just now
        os.mkdir(name, _PARENT_MODE, dir_fd=directory)
    return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)


@contextmanager
def told(path: str) -> Iterator[None]:
    """Say an ``OSError`` about ``path`` as one of our errors, naming the path."""
    try:
        yield
    except OSError as e:
        raise _error(path, e) from e


def _error(path: str, e: OSError) -> errors.AgentctlError:
    if e.errno == errno.ENOENT:
        return errors.PathNotFound(f"There is no {path}.", details={"path": path})
    if e.errno == errno.EEXIST:
        return errors.AlreadyExists(f"{path} exists already.", details={"path": path})
    if e.errno == errno.ENOTEMPTY:
        return errors.DirectoryNotEmpty(
            f"The directory {path} is not empty.", hint="Remove it with all in it: recursive.", details={"path": path}
        )
    if e.errno in _NO_SPACE:
        return errors.DiskFull(f"The disk that holds {path} is full; nothing of it was kept.")
    if e.errno in _FORBIDDEN:
        return errors.PermissionDenied(f"{path}: {e.strerror}.")
    if e.errno in _SENSELESS:
        return errors.UsageError(f"{path} {_SENSELESS[e.errno]}.")
    return errors.SandboxError(f"{path}: {e.strerror}.")
