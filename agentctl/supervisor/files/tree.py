"""Files of a place that a caller names by path: listed, read, written, moved, edited, packed and unpacked.

``Files`` is the one way to them: the supervisor's routes (``fs_routes.py``) put it on HTTP, and the host uses it for
its own directories and for volumes that lie on it. ``FilesClient`` has the same methods for what is behind HTTP. Shapes
are those of sandbox-agent 0.4 (FsEntry, FsStat, …), with ``mode`` (octal text), and ``target`` for a link, in addition.

In what is answered a name is always proper text: bytes that are no UTF-8 stand as U+FFFD, and then ``rawPath`` comes
along, the exact path in percent-encoding.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Generator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from agentctl import errors
from agentctl.supervisor.files import whole
from agentctl.supervisor.files.pack import LeaveOut, pack
from agentctl.supervisor.files.space import FileSpace, Place, told
from agentctl.supervisor.files.stream import CHUNK_BYTES, consumed, in_thread, streamed
from agentctl.supervisor.files.unpack import Unpacker
from agentctl.supervisor.files.write import MODE_BITS, NewFile

Json = dict[str, Any]
MAX_EDIT_BYTES = 64 * 1024 * 1024
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe must not make us wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An open file: ``size`` in bytes, None where the system does not tell (``/proc``), ``mode``, and its bytes."""

    size: int | None
    mode: int
    chunks: AsyncIterator[bytes]


class Files:
    """All raise what ``FileSpace`` does, ``PathNotFound`` and ``PermissionDenied``; further errors are named."""

    def __init__(self, space: FileSpace) -> None:
        self._space = space

    async def entries(self, path: str) -> list[Json]:
        """``[FsEntry]`` of a directory by name, links as they are. Raise ``UsageError`` when it is none."""
        return await in_thread(self._entries, path)

    async def stat(self, path: str) -> Json:
        """``FsStat`` of what the path leads to."""
        return await in_thread(self._stat, path)

    async def delete(self, path: str, *, recursive: bool = False) -> Json:
        """Remove a file, a link or a directory: ``{"path"}``. Raise ``DirectoryNotEmpty`` unless ``recursive``."""
        return await in_thread(self._delete, path, recursive)

    async def mkdir(self, path: str) -> Json:
        """Make a directory and what is missing above it: ``{"path"}``; one that is there is fine. Raise
        ``AlreadyExists`` for anything else that is there."""
        return await in_thread(self._mkdir, path)

    async def move(self, source: str, to: str, *, overwrite: bool = False) -> Json:
        """Move the entry itself, making what is missing above ``to``: ``{"from", "to"}``. Raise ``AlreadyExists``
        unless ``overwrite``, ``DirectoryNotEmpty``."""
        return await in_thread(self._move, source, to, overwrite)

    async def edit(self, path: str, old: str, new: str, *, everywhere: bool = False) -> Json:
        """Replace text in a file at once: ``{"path", "replacements"}``. ``old`` must be there exactly once, unless
        ``everywhere``. Mode and line ends are kept. Raise ``UsageError`` (also for what is no UTF-8 text), ``Conflict``
        when someone else changed the file meanwhile."""
        return await in_thread(self._edit, path, old, new, everywhere)

    @asynccontextmanager
    async def read(self, path: str) -> AsyncIterator[Reading]:
        """A regular file, as long as it is when it is opened. Raise ``UsageError`` for anything else."""
        fd, status = await in_thread(self._opened, path)
        try:
            size = status.st_size or None
            async with aclosing(streamed(_bytes_of(fd, size, path))) as chunks:
                yield Reading(size=size, mode=status.st_mode & MODE_BITS, chunks=chunks)
        finally:
            os.close(fd)

    async def write(
        self, path: str, chunks: AsyncIterator[bytes], *, mode: int | None = None, size: int | None = None
    ) -> Json:
        """Write a file, making what is missing above it: ``{"path", "bytesWritten"}``. It appears whole at the end, or
        not at all; ``size`` says how much will come, if that is known. Raise ``UsageError`` where something else than a
        file is, ``Conflict`` when another number of bytes comes, ``DiskFull``."""
        place = await in_thread(self._space.target, path, make_parents=True)
        with place:
            new = await in_thread(NewFile, place, mode=mode)
            with new:
                written = 0

                def take(buffers: list[bytes]) -> None:
                    nonlocal written
                    written += new.write(buffers)

                await consumed(chunks, take)
                if size is not None and written != size:
                    raise errors.Conflict(f"{written} of {size} bytes came for {place.path}; nothing was kept.")
                await in_thread(new.commit)
        return {**named(place.path), "bytesWritten": written}

    @asynccontextmanager
    async def pack(
        self, path: str, *, leave_out: LeaveOut = lambda member: False
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A directory (or one file) as a tar stream; see ``files_pack.pack``."""
        await in_thread(self._stat, path)
        async with aclosing(streamed(pack(self._space, path, leave_out=leave_out))) as chunks:
            yield chunks

    async def unpack(self, path: str, chunks: AsyncIterator[bytes]) -> Json:
        """Unpack a tar stream into a directory, made if missing: ``{"paths": at most 1024, "truncated"}``. All of it,
        or nothing; see ``files_unpack.Unpacker``."""
        place = await in_thread(self._space.target, path, make_parents=True)
        with place:
            unpacker = await in_thread(Unpacker, place)
            try:
                await consumed(chunks, unpacker.feed)
                paths, truncated = await in_thread(unpacker.finish)
            finally:
                await in_thread(unpacker.close)
        return {"paths": [text_of(path) for path in paths], "truncated": truncated}

    def _entries(self, path: str) -> list[Json]:
        with self._space.target(path) as place, told(place.path):
            directory = os.open(
                place.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place.directory
            )
            try:
                return [entry for name in sorted(os.listdir(directory)) if (entry := _entry(directory, name, place))]
            finally:
                os.close(directory)

    def _stat(self, path: str) -> Json:
        with self._space.target(path) as place, told(place.path):
            return {**named(place.path), **_about(place.status())}

    def _delete(self, path: str, recursive: bool) -> Json:
        with self._space.entry(path) as place, told(place.path):
            _refuse_top(place, "removed")
            if not stat.S_ISDIR(place.status().st_mode):
                os.unlink(place.name, dir_fd=place.directory)
            elif recursive:
                shutil.rmtree(place.name, dir_fd=place.directory)
            else:
                os.rmdir(place.name, dir_fd=place.directory)
            return named(place.path)

    def _mkdir(self, path: str) -> Json:
        with self._space.target(path, make_parents=True) as place, told(place.path):
            try:
                os.mkdir(place.name, dir_fd=place.directory)
            except FileExistsError:
                if not stat.S_ISDIR(place.status().st_mode):
                    raise
            return named(place.path)

    def _move(self, source: str, to: str, overwrite: bool) -> Json:
        with self._space.entry(source) as old:
            with told(old.path):
                _refuse_top(old, "moved")
                status = old.status()
            with self._space.entry(to, make_parents=True) as new, told(new.path):
                _refuse_top(new, "replaced")
                if overwrite or stat.S_ISDIR(status.st_mode) or not _linked(old, new):
                    _renamed(old, new, overwrite)
                return {"from": text_of(old.path), "to": text_of(new.path)}

    def _edit(self, path: str, old: str, new: str, everywhere: bool) -> Json:
        if not old:
            raise errors.UsageError("The text to replace is empty.")
        fd, before = self._opened(path)
        try:
            if before.st_size > MAX_EDIT_BYTES:
                raise errors.UsageError(f"{path} has {before.st_size} bytes; at most {MAX_EDIT_BYTES} can be edited.")
            with told(path), open(fd, "rb", closefd=False) as file:
                content = file.read(MAX_EDIT_BYTES + 1)
        finally:
            os.close(fd)
        changed, count = _replaced(path, content, old, new, everywhere)
        with self._space.target(path) as place:
            with NewFile(place, expect=before) as file_:
                file_.write([changed])
                file_.commit()
            return {**named(place.path), "replacements": count}

    def _opened(self, path: str) -> tuple[int, os.stat_result]:
        with self._space.target(path) as place, told(place.path):
            fd = os.open(place.name, _READ, dir_fd=place.directory)
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                return fd, status
            os.close(fd)
            kind = "a directory, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise errors.UsageError(f"{place.path} is {kind}.")


def _bytes_of(fd: int, size: int | None, path: str) -> Generator[bytes, None, None]:
    left = size
    while left is None or left > 0:
        with told(path):
            data = os.read(fd, CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
        if not data:
            return
        left = None if left is None else left - len(data)
        yield data


def _entry(directory: int, name: str, place: Place) -> Json | None:
    """None when it is gone by now."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        link = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(status.st_mode) else None
    except FileNotFoundError:
        return None
    entry = {"name": text_of(name), **named(os.path.join(place.path, name)), **_about(status)}
    return entry if link is None else {**entry, "target": text_of(link)}


def _about(status: os.stat_result) -> Json:
    return {
        "entryType": "directory" if stat.S_ISDIR(status.st_mode) else "file",
        "size": status.st_size,
        "modified": rfc3339_ns(status.st_mtime_ns),
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
    }


def rfc3339_ns(nanoseconds: int) -> str:
    """``2026-11-21T09:00:00.123456789+00:00``."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}+00:00"


def named(path: str) -> Json:
    """``{"path"}``, with ``rawPath`` where the path is not UTF-8."""
    text = text_of(path)
    return {"path": text} if text == path else {"path": text, "rawPath": quote(os.fsencode(path))}


def text_of(path: str) -> str:
    """A path as proper text: U+FFFD for every byte that is no UTF-8."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "replace")


def _refuse_top(place: Place, what: str) -> None:
    if place.is_top:
        raise errors.UsageError(f"{place.path} itself cannot be {what}.")


def _linked(old: Place, new: Place) -> bool:
    """Move a file without ever replacing one, where the file system has hard links."""
    try:
        os.link(old.name, new.name, src_dir_fd=old.directory, dst_dir_fd=new.directory, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        return False
    os.unlink(old.name, dir_fd=old.directory)
    return True


def _renamed(old: Place, new: Place, overwrite: bool) -> None:
    if not overwrite and new.status_or_none() is not None:
        raise FileExistsError(17, "File exists")
    whole.rename(old.name, new.name, src_dir_fd=old.directory, dst_dir_fd=new.directory)


def _replaced(path: str, content: bytes, old: str, new: str, everywhere: bool) -> tuple[bytes, int]:
    if b"\0" in content:
        raise errors.UsageError(f"{path} is a binary file (it has a NUL); only text can be edited.")
    with suppress(UnicodeDecodeError):
        content.decode()
        before, after = _encoded(old), _encoded(new)
        count = content.count(before)
        if count == 0:
            raise errors.UsageError(f"The text to replace is not in {path}.", hint="It must match to the last space.")
        if count > 1 and not everywhere:
            raise errors.UsageError(
                f"The text to replace is in {path} {count} times.",
                hint="Give more of what is around it, or replace all.",
            )
        return content.replace(before, after), count
    raise errors.UsageError(f"{path} is not UTF-8 text; only text can be edited.")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as e:
        raise errors.UsageError("The text to replace, or its replacement, is not UTF-8.") from e
