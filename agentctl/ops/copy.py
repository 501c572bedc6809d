"""``agentctl cp``: between this host, sessions and volumes, in any direction, as ``cp -r`` and ``docker cp`` do it.

* A file goes to ``DST``, or into it where that is a directory. A directory needs ``recursive``; it becomes ``DST``, or
  goes into it under its own name where that is a directory; a source that ends in ``/.`` (or is ``.``) is copied by its
  content alone. What is there is merged with and replaced, but a file never by a directory nor the other way round.
  The directory that ``DST`` lies in must be there; a ``DST`` that ends in ``/`` must be one, for a file.
* A link that is named itself is followed; links inside a directory stay links, and nothing is written through one.
  Modes are kept, without set-id bits; owners and times are not. Sockets, pipes and devices are left out.
* Each file, and a directory as a whole, appears when it has come completely, or not at all.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentctl import errors
from agentctl.ops import files as session_files
from agentctl.ops.report import Report, silent

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.supervisor.files import Files
    from agentctl.supervisor_client.files import FilesClient

    AnyFiles = Files | FilesClient

Json = dict[str, Any]
Progress = Callable[[int, int | None], None]
"""Called with the bytes that were copied so far, and how many it will be where that is known."""

_VOLUME = "volume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """One side of a copy. ``name`` is a session or a volume; ``""`` on the host."""

    kind: Literal["host", "session", "volume"]
    path: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Where:
        """``PATH``, ``SESSION:PATH`` or ``volume:NAME/PATH``; a colon behind a slash belongs to a path of the host."""
        before, colon, after = text.partition(":")
        if text in ("", "-"):
            hint = "Write PATH, SESSION:PATH or volume:NAME/PATH; for a stream: sessions files put | cat."
            raise errors.UsageError(f"{text!r} is no path to copy from or to.", hint=hint)
        if not colon or not before or "/" in before or before in (".", ".."):
            return cls(kind="host", path=text)
        if before != _VOLUME:
            return cls(kind="session", name=before, path=after or ".")
        name, _, path = after.partition("/")
        if not name:
            raise errors.UsageError(f"{text!r} names no volume.", hint="Write volume:NAME/PATH.")
        return cls(kind="volume", name=name, path=path.lstrip("/") or ".")

    def __str__(self) -> str:
        if self.kind == "volume":
            return f"{_VOLUME}:{self.name}/{self.path}"
        return f"{self.name}:{self.path}" if self.kind == "session" else self.path


async def copy(
    app: App,
    source: Where,
    target: Where,
    *,
    recursive: bool = False,
    report: Report = silent,
    progress: Progress = lambda done, whole: None,
) -> Json:
    """Copy: ``{"source", "target": the path that was written, "bytes"}``; those of a directory are its tar's.

    Raise ``UsageError`` for a directory without ``recursive``, ``Unsupported`` for a volume that this host cannot
    reach, ``PathNotFound``, ``AlreadyExists``, ``DiskFull`` and what bringing a session's sandbox up raises.
    """
    async with _opened(app, source, report) as from_, _opened(app, target, report) as to:
        about = await from_.stat(source.path)
        is_tree = about["entryType"] == "directory"
        if is_tree and not recursive:
            raise errors.UsageError(f"{source} is a directory.", hint="Copy it with all in it: agentctl cp -r")
        end = await _end_of(to, target.path, about, _own_name(source.path, about))
        if is_tree:
            await _refuse_inside(app, source, about, target, to, end)
            size = await _copy_tree(from_, source.path, to, end, progress)
        else:
            size = await _copy_file(from_, source.path, to, end, progress)
        return {"source": str(source), "target": (await to.stat(end))["path"], "bytes": size}


async def _copy_file(from_: AnyFiles, path: str, to: AnyFiles, end: str, progress: Progress) -> int:
    async with from_.read(path) as reading:
        counted = _Counted(reading.chunks, reading.size, progress)
        await to.write(end, counted.chunks(), mode=reading.mode, size=reading.size)
    return counted.done


async def _copy_tree(from_: AnyFiles, path: str, to: AnyFiles, end: str, progress: Progress) -> int:
    async with from_.pack(path) as chunks:
        counted = _Counted(chunks, None, progress)
        await to.unpack(end, counted.chunks())
    return counted.done


class _Counted:
    def __init__(self, chunks: AsyncIterator[bytes], whole: int | None, progress: Progress) -> None:
        self._chunks = chunks
        self._whole = whole
        self._progress = progress
        self.done = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            self.done += len(chunk)
            self._progress(self.done, self._whole)
            yield chunk
        if self._whole is not None and self.done != self._whole:
            raise errors.Conflict("The file became shorter while it was copied; nothing was kept.", hint="Try again.")


async def _end_of(to: AnyFiles, path: str, about: Json, own_name: str | None) -> str:
    """Where the copy will lie: below a directory that is there, if it has a name to take there."""
    is_tree = about["entryType"] == "directory"
    try:
        there = await to.stat(path)
    except errors.PathNotFound:
        if path.endswith("/") and not is_tree:
            hint = "Make it first, or leave out the / at the end."
            raise errors.PathNotFound(f"There is no directory {path}", hint=hint) from None
        parent = posixpath.dirname(path.rstrip("/")) or "."
        if (await to.stat(parent))["entryType"] != "directory":
            raise errors.UsageError(f"{parent} is not a directory.") from None
        return path
    if there["entryType"] == "directory":
        return posixpath.join(path, own_name) if own_name else path
    if is_tree:
        raise errors.AlreadyExists(f"{path} is a file; a directory cannot take its place.")
    return path


def _own_name(path: str, about: Json) -> str | None:
    """The name that a source takes along; None for a directory that is meant by its content."""
    if about["entryType"] == "directory" and (path in (".", "./") or path.endswith(("/.", "/./"))):
        return None
    name = posixpath.basename(path.rstrip("/"))
    return posixpath.basename(_real(about)) if name in ("", ".", "..") else name


def _real(about: Json) -> str:
    """The exact path, links resolved."""
    if "rawPath" not in about:
        return str(about["path"])
    from urllib.parse import unquote_to_bytes

    return os.fsdecode(unquote_to_bytes(about["rawPath"]))


async def _refuse_inside(app: App, source: Where, about: Json, target: Where, to: AnyFiles, end: str) -> None:
    if _system(app, source) != _system(app, target):
        return
    parent = _real(await to.stat(posixpath.dirname(end.rstrip("/")) or "."))
    if f"{parent}/".startswith(_real(about).rstrip("/") + "/"):
        raise errors.UsageError(f"{target} lies inside of {source}: a directory cannot be copied into itself.")


def _system(app: App, where: Where) -> str:
    """Whose file system it is; a session that is separated from this host by nothing has ours."""
    if where.kind != "session":
        return ""
    session = app.store.session(where.name)
    return "" if app.provider(session.spec.provider).capabilities.boundary == "none" else session.id


@asynccontextmanager
async def _opened(app: App, where: Where, report: Report) -> AsyncIterator[AnyFiles]:
    if where.kind == "session":
        async with session_files.files_of(app, where.name, report) as files:
            yield files
        return
    from agentctl.supervisor.files import Files
    from agentctl.supervisor.files_space import FileSpace

    if where.kind == "host":
        yield Files(FileSpace(os.getcwd(), loose=True))
    else:
        root = await _volume_root(app, where)
        yield Files(FileSpace(root, root))


async def _volume_root(app: App, where: Where) -> str:
    """Where the volume lies on this host. Raise ``VolumeNotFound``, ``Unsupported``."""
    name = app.config.provider or "unix_local"
    known = [volume for volume in app.store.volumes() if volume.name == where.name]
    if not known:
        known = [volume for volume in await app.provider(name).volume_list() if volume.name == where.name]
    if not known:
        raise errors.VolumeNotFound(f"There is no volume {where.name}.")
    for volume in known:
        path = app.provider(volume.provider).volume_path(volume, ".")
        if path is not None:
            return str(path)
    raise errors.Unsupported(
        f"The volume {where.name} of {known[0].provider} does not lie on this host.",
        hint="Copy by way of a session that uses it: agentctl cp SESSION:PATH …",
    )
