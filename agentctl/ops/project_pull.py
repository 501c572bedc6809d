"""What a session changed in its project, brought back into a directory of this host: all of it, or nothing.

A file of the host's that somebody else changed meanwhile is never overwritten silently: the files are compared first,
and a single one that is neither as it was nor as it becomes refuses the whole. Paths come from a sandbox: none leaves
the directory, goes through a symbolic link, or is in a ``.git``.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from agentctl import errors
from agentctl.ops.project_base import files_at
from agentctl.ops.project_changes import compared, listed
from agentctl.ops.project_place import ProjectPlace, project_of
from agentctl.ops.project_snapshots import GITLINK, LINK, Change, Comparison
from agentctl.supervisor.files.space import FileSpace, told
from agentctl.supervisor.files.stream import in_thread

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]
_CHUNK_BYTES = 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MISSING, _OTHER = "missing", "other"


async def pull(app: App, ref: str, *, to: Path | None = None, overwrite: bool = False) -> Json:
    """Write the files that the session changed into ``to``, the project itself by default, and delete those that it
    deleted: ``{"session", "to", "written": [path], "deleted": [path], "same": [path]}``.

    Raise ``Conflict``, with nothing changed, for files of the host's that somebody else changed, unless ``overwrite``;
    and as ``compared``.
    """
    session = app.store.session(ref)
    project = project_of(session)
    directory = (to or Path(project["path"])).expanduser().absolute()
    if to is None and project["mode"] == "mount":
        return {"session": session.name, "to": str(directory), "written": [], "deleted": [], "same": []}
    async with compared(app, session) as comparison:
        changes = [change for change in await comparison.changes() if GITLINK not in (change.old_mode, change.new_mode)]
        directory.mkdir(parents=True, exist_ok=True)
        is_project = directory.resolve() == Path(project["path"])
        todo = await in_thread(_checked, directory, changes, is_project=is_project, overwrite=overwrite)
        await _bring(comparison, directory, todo)
        ProjectPlace(app, session.id).change(pulled=comparison.new)
    shown = {kind: [c.to_json()["path"] for c in todo if (c.new_id is None) == gone] for kind, gone in _KINDS}
    same = [change.to_json()["path"] for change in changes if change not in todo]
    return {"session": session.name, "to": str(directory), **shown, "same": same}


_KINDS = (("written", False), ("deleted", True))


async def pull_patch(app: App, ref: str, to: IO[bytes]) -> int:
    """Write the patch, and return how many files it changes."""
    session = app.store.session(ref)
    async with compared(app, session) as comparison:
        await comparison.patch(to)
        ProjectPlace(app, session.id).change(pulled=comparison.new)
        return len(await comparison.changes())


def _checked(directory: Path, changes: Sequence[Change], *, is_project: bool, overwrite: bool) -> list[Change]:
    """Those that are still to be brought. Raise ``Conflict`` for what somebody else changed."""
    todo, theirs = [], []
    gone = {change.path for change in changes if change.new_id is None}
    for change in changes:
        has = _state(directory, change, gone)
        if has == _wanted(change.new_mode, change.new_id):
            continue
        todo.append(change)
        is_free = has == _MISSING and (not is_project or change.old_id is None)
        if not is_free and has != _wanted(change.old_mode, change.old_id):
            theirs.append(change.path)
    if theirs and not overwrite:
        raise errors.Conflict(
            f"Files in {directory} were changed by somebody else since the session began: {listed(theirs)}.",
            hint="Nothing was written. Overwrite them with --yes, or take the changes as a patch: --patch FILE",
            details={"directory": str(directory), "files": theirs},
        )
    return todo


def _wanted(mode: str | None, object_id: str | None) -> str:
    return _MISSING if mode is None or object_id is None else f"{mode} {object_id}"


def _state(directory: Path, change: Change, gone: set[str]) -> str:
    """What is at its path: mode and id as git has them, or that it is missing, or something else. What stands in the
    way and is deleted by the session itself is as good as missing."""
    path = change.path
    parts = path.split("/")
    for end in range(1, len(parts)):
        parent = "/".join(parts[:end])
        try:
            mode = os.lstat(directory / parent).st_mode
        except FileNotFoundError:
            return _MISSING
        except NotADirectoryError:
            return _OTHER
        if not stat.S_ISDIR(mode):
            return _MISSING if parent in gone else _OTHER
    try:
        status = os.lstat(directory / path)
    except FileNotFoundError:
        return _MISSING
    if stat.S_ISLNK(status.st_mode):
        target = os.fsencode(os.readlink(directory / path))
        return f"{LINK} {_blob_hash(len(target), target).hexdigest()}"
    if stat.S_ISREG(status.st_mode):
        return f"{'100755' if status.st_mode & 0o100 else '100644'} {_hash(directory / path)}"
    if stat.S_ISDIR(status.st_mode) and (change.new_id is None or _files_below(directory, path) <= gone):
        return _MISSING
    return _OTHER


def _files_below(directory: Path, path: str) -> set[str]:
    return {
        os.path.relpath(os.path.join(root, name), directory)
        for root, directories, names in os.walk(directory / path)
        for name in (*names, *(name for name in directories if os.path.islink(os.path.join(root, name))))
    }


def _hash(path: Path) -> str:
    """The id that git would give the file."""
    with open(os.open(path, _READ), "rb") as file:
        found = _blob_hash(os.fstat(file.fileno()).st_size)
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()


def _blob_hash(size: int, data: bytes = b"") -> hashlib._Hash:
    return hashlib.sha1(b"blob %d\0" % size + data, usedforsecurity=False)


async def _bring(comparison: Comparison, directory: Path, todo: Sequence[Change]) -> None:
    """First what goes, so that a directory can take the place of a file, and the other way round."""
    space = FileSpace(str(directory), root=str(directory))
    for change in todo:
        if change.new_id is None:
            _delete(space, directory, change.path)
    for change in todo:
        if change.new_id is not None:
            await _write(comparison, space, directory, change)


def _delete(space: FileSpace, directory: Path, path: str) -> None:
    with suppress(errors.PathNotFound), space.entry(path) as place, told(path), suppress(FileNotFoundError):
        os.unlink(place.name, dir_fd=place.directory)
    for parent in Path(path).parents:
        try:
            if str(parent) != ".":
                (directory / parent).rmdir()
        except OSError:
            return  # not empty


async def _write(comparison: Comparison, space: FileSpace, directory: Path, change: Change) -> None:
    assert change.new_id is not None
    with tempfile.TemporaryFile() as content:
        await comparison.content(change.new_id, content)
        content.seek(0)
        if change.new_mode == LINK:
            _link(space, change.path, content.read())
            return
        with space.entry(change.path, make_parents=True) as place:
            there = place.status_or_none()
            if there is not None and stat.S_ISLNK(there.st_mode):
                os.unlink(place.name, dir_fd=place.directory)
        mode = 0o755 if change.new_mode == "100755" else 0o644
        await files_at(directory).write(change.path, _chunks(content), mode=mode)


def _link(space: FileSpace, path: str, target: bytes) -> None:
    with space.entry(path, make_parents=True) as place, told(path):
        with suppress(FileNotFoundError):
            os.unlink(place.name, dir_fd=place.directory)
        os.symlink(os.fsdecode(target), place.name, dir_fd=place.directory)


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
