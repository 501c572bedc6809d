"""A tar stream becomes files: all of them, or none.

Everything is unpacked into a directory of its own beside its place, where nothing else lies that a member could lead
through, and moved from there when the archive has come to its end. So a broken upload, a full disk or a member that
would escape leaves nothing behind, and a file that is replaced is seen old or new, never half.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager

from agentctl import errors
from agentctl.supervisor.files import whole
from agentctl.supervisor.files.space import Place, open_below, told
from agentctl.supervisor.files.tar import Member, TarSteps, padding
from agentctl.supervisor.files.write import MODE_BITS, temporary_name

PATHS_TOLD = 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpacker:
    """Unpacks into the directory ``place``, which is made if it is missing: ``feed`` all that comes, ``finish``, and in
    any case ``close``; closed without ``finish``, nothing was changed. All methods block.

    Symbolic links are made as the archive has them, and nothing is ever written through one. Modes of files and of new
    directories are kept, but for set-id and sticky bits; times of files only with ``times``. Raise
    ``UsageError`` for a bad archive, ``AlreadyExists`` where a file and a directory would have the same name,
    ``DiskFull``.
    """

    def __init__(self, place: Place, *, times: bool = False) -> None:
        self._path = place.path
        self._times = times
        self._paths: list[str] = []
        self._count = 0
        self._modes: list[tuple[str, int]] = []
        self._parent = ("", -1)
        self._place = place
        self._tar = TarSteps()
        self._ended = self._finished = False
        with told(place.path), ExitStack() as undo:
            self._made = self._make_target(place)
            if self._made:
                undo.callback(os.rmdir, place.name, dir_fd=place.directory)
            self._target = os.open(place.name, _DIRECTORY, dir_fd=place.directory)
            undo.callback(os.close, self._target)
            self._name = temporary_name()
            os.mkdir(self._name, 0o700, dir_fd=self._target)
            undo.callback(os.rmdir, self._name, dir_fd=self._target)
            self._staging = os.open(self._name, _DIRECTORY, dir_fd=self._target)
            undo.pop_all()
        self._steps = self._unpack()
        next(self._steps)

    @staticmethod
    def _make_target(place: Place) -> bool:
        there = place.status_or_none()
        if there is None:
            os.mkdir(place.name, dir_fd=place.directory)
        elif not stat.S_ISDIR(there.st_mode):
            raise errors.AlreadyExists(f"{place.path} is there already and is not a directory.")
        return there is None

    def close(self) -> None:
        """Remove what was not put into its place."""
        self._steps.close()
        self._leave_parent()
        os.close(self._staging)
        shutil.rmtree(self._name, ignore_errors=True, dir_fd=self._target)
        os.close(self._target)
        if self._made and not self._finished:
            os.rmdir(self._place.name, dir_fd=self._place.directory)

    def feed(self, buffers: list[bytes]) -> None:
        """Unpack what these bytes bring; what follows the end of the archive is ignored."""
        with told(self._path):
            for buffer in buffers:
                if buffer and not self._ended:
                    self._send(buffer)

    def _send(self, buffer: bytes) -> None:
        try:
            self._steps.send(buffer)
        except StopIteration:
            self._ended = True

    def finish(self) -> tuple[list[str], bool]:
        """Put everything into its place: at most 1024 of the paths, and whether there are more."""
        if not self._ended:
            raise errors.UsageError("The archive ends too early; nothing was unpacked.")
        self._leave_parent()
        with told(self._path):
            _check(self._staging, self._target, self._path)
            kept = set(_merge(self._staging, self._target))
            for name, mode in sorted(self._modes, key=_depth, reverse=True):
                if name not in kept:
                    _set_mode(self._target, name, mode)
        self._finished = True
        return self._paths, self._count > len(self._paths)

    def _unpack(self) -> Generator[None, bytes, None]:
        while (member := (yield from self._tar.member())) is not None:
            if not member.name:
                if self._made:
                    self._modes.append(("", member.mode))
                continue
            parent, _, name = member.name.rpartition("/")
            yield from self._one(self._entered(parent, member), name, member)
            self._count += 1
            if len(self._paths) < PATHS_TOLD:
                self._paths.append(os.path.join(self._path, member.name))

    def _one(self, directory: int, name: str, member: Member) -> Generator[None, bytes, None]:
        if member.kind == tarfile.DIRTYPE:
            self._directory(directory, name, member)
            return
        self._make_room(directory, name, member)
        if member.kind == tarfile.SYMTYPE:
            os.symlink(member.link, name, dir_fd=directory)
        elif member.kind == tarfile.LNKTYPE:
            self._hard_link(directory, name, member)
        else:
            yield from self._file(directory, name, member)

    def _entered(self, parent: str, member: Member) -> int:
        """The open directory of that name in the staging directory; the last one is kept, most members share it."""
        if self._parent[1] < 0 or self._parent[0] != parent:
            self._leave_parent()
            try:
                fd = open_below(os.dup(self._staging), [p for p in parent.split("/") if p], make=True)
            except NotADirectoryError as e:
                raise errors.UsageError(
                    f"{member.name!r} in the archive lies below something that is not a directory of it; "
                    "nothing was unpacked."
                ) from e
            self._parent = (parent, fd)
        return self._parent[1]

    def _leave_parent(self) -> None:
        if self._parent[1] >= 0:
            os.close(self._parent[1])
        self._parent = ("", -1)

    def _directory(self, directory: int, name: str, member: Member) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                raise errors.UsageError(f"{member.name!r} is in the archive twice; nothing was unpacked.") from None
        self._modes.append((member.name, member.mode))

    def _make_room(self, directory: int, name: str, member: Member) -> None:
        """The last one of a name counts, as with tar."""
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            raise errors.UsageError(f"{member.name!r} is in the archive twice; nothing was unpacked.") from None

    def _hard_link(self, directory: int, name: str, member: Member) -> None:
        parts = member.link.split("/")
        source = open_below(os.dup(self._staging), parts[:-1])
        try:
            if not stat.S_ISREG(os.stat(parts[-1], dir_fd=source, follow_symlinks=False).st_mode):
                raise errors.UsageError(f"{member.name!r} in the archive links to what is no file of it.")
            os.link(parts[-1], name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError as e:
            raise errors.UsageError(f"{member.name!r} in the archive links to what is not in it.") from e
        finally:
            os.close(source)

    def _file(self, directory: int, name: str, member: Member) -> Generator[None, bytes, None]:
        fd = os.open(name, _NEW, 0o600, dir_fd=directory)
        try:
            left = member.size
            while left:
                data = yield from self._tar.some(left)
                left -= len(data)
                while data:
                    data = data[os.write(fd, data) :]
            whole.set_mode(fd, member.mode & MODE_BITS)
            if self._times:
                whole.set_times(fd, member.modified)
        finally:
            os.close(fd)
        yield from self._tar.skip(padding(member.size))


def _check(new: int, old: int, path: str) -> None:
    """Raise ``AlreadyExists`` where a directory would stand in a file's place or a file in a directory's."""
    for name, is_directory in _listed(new):
        there = _status(old, name)
        if there is None:
            continue
        if is_directory != stat.S_ISDIR(there.st_mode):
            is_now, would_be = ("not a directory", "one") if is_directory else ("a directory", "none")
            raise errors.AlreadyExists(
                f"{path}/{name} is there already and is {is_now}; what is to be copied is {would_be}.",
                hint="Move it away, or copy to another place.",
            )
        if is_directory:
            with _both(new, old, name) as (below, beside):
                _check(below, beside, f"{path}/{name}")


def _merge(new: int, old: int, prefix: str = "") -> Iterator[str]:
    """Move all of ``new`` into ``old``, and tell the directories that were in both."""
    for name, is_directory in _listed(new):
        if is_directory and _status(old, name) is not None:
            yield prefix + name
            with _both(new, old, name) as (below, beside):
                yield from _merge(below, beside, f"{prefix}{name}/")
        else:
            whole.rename(name, name, src_dir_fd=new, dst_dir_fd=old)


def _listed(directory: int) -> list[tuple[str, bool]]:
    """Opened anew: some volumes show in a directory what was there when it was opened."""
    fd = os.open(".", _DIRECTORY, dir_fd=directory)
    try:
        with os.scandir(fd) as entries:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    finally:
        os.close(fd)


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextmanager
def _both(one: int, other: int, name: str) -> Iterator[tuple[int, int]]:
    """The directories of one name in two others, open."""
    with ExitStack() as opened:
        first = os.open(name, _DIRECTORY, dir_fd=one)
        opened.callback(os.close, first)
        second = os.open(name, _DIRECTORY, dir_fd=other)
        opened.callback(os.close, second)
        yield first, second


def _depth(entry: tuple[str, int]) -> int:
    return entry[0].count("/") + bool(entry[0])


def _set_mode(target: int, name: str, mode: int) -> None:
    *parents, last = name.split("/")
    parent = open_below(os.dup(target), parents)
    try:
        fd = os.open(last or ".", _DIRECTORY, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        whole.set_mode(fd, mode & MODE_BITS)
    finally:
        os.close(fd)
