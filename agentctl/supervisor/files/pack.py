"""A directory as a tar stream. Links stay links, and what is neither file, directory nor link is left out."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from collections.abc import Callable, Generator

from agentctl import errors
from agentctl.supervisor.files.space import FileSpace, told
from agentctl.supervisor.files.stream import CHUNK_BYTES
from agentctl.supervisor.files.tar import FAILURE
from agentctl.supervisor.files.write import is_temporary

_END = b"\0" * 1024
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_DIRECTORY = _READ | os.O_DIRECTORY

LeaveOut = Callable[[str], bool]
"""Whether a member, by its name, is not wanted, with all below it."""


def pack(
    space: FileSpace, path: str, *, leave_out: LeaveOut = lambda member: False, strict: bool = False
) -> Generator[bytes, None, None]:
    """The tar of what ``path`` leads to: a directory's members are named from the directory on, which is ``.`` itself;
    a file is the one member. Sockets, pipes and devices are left out, as are files that vanish meanwhile; a file that
    shrinks meanwhile is filled up with zeros. Raise ``PathNotFound``; what goes wrong later ends the archive with a
    header that tells it to ``files_tar``; with ``strict`` it is raised.
    """
    with space.target(path) as place:
        with told(place.path):
            status = place.status()
        try:
            if stat.S_ISDIR(status.st_mode):
                yield _header(".", tarfile.DIRTYPE, status)
                yield from _members(place.directory, place.name, "", place.path, leave_out)
            else:
                yield from _member(place.directory, place.name, os.path.basename(place.path), place.path, leave_out)
        except errors.AgentctlError as e:
            if strict:
                raise
            yield failure(e)
            return
    yield _END


def failure(error: errors.AgentctlError) -> bytes:
    """A global header that tells the reader why the archive stops here. It is no member, and other readers miss the
    archive's end."""
    info = tarfile.TarInfo()
    told_so = {FAILURE: json.dumps(error.to_json())}
    return info.create_pax_global_header(told_so)


def _members(parent: int, name: str, prefix: str, path: str, leave_out: LeaveOut) -> Generator[bytes, None, None]:
    with told(path):
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        for entry in sorted(os.listdir(directory)):
            if not is_temporary(entry) and not leave_out(prefix + entry):
                yield from _member(directory, entry, prefix + entry, f"{path}/{entry}", leave_out)
    finally:
        os.close(directory)


def _member(directory: int, name: str, member: str, path: str, leave_out: LeaveOut) -> Generator[bytes, None, None]:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        link = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(status.st_mode) else ""
    except FileNotFoundError:
        return
    if stat.S_ISDIR(status.st_mode):
        yield _header(member, tarfile.DIRTYPE, status)
        yield from _members(directory, name, f"{member}/", path, leave_out)
    elif stat.S_ISLNK(status.st_mode):
        yield _header(member, tarfile.SYMTYPE, status, link=link)
    elif stat.S_ISREG(status.st_mode):
        yield from _file(directory, name, member, path)


def _file(directory: int, name: str, member: str, path: str) -> Generator[bytes, None, None]:
    try:
        with told(path):
            fd = os.open(name, _READ, dir_fd=directory)
    except errors.PathNotFound:
        return
    try:
        status = os.fstat(fd)
        yield _header(member, tarfile.REGTYPE, status, size=status.st_size)
        left = status.st_size
        while left:
            data = os.read(fd, min(left, CHUNK_BYTES)) or bytes(min(left, CHUNK_BYTES))
            left -= len(data)
            yield data
        yield bytes(-status.st_size % tarfile.BLOCKSIZE)
    finally:
        os.close(fd)


def _header(name: str, kind: bytes, status: os.stat_result, *, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = stat.S_IMODE(status.st_mode)
    info.mtime = int(status.st_mtime)
    info.size = size
    info.linkname = link
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
