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
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from agentctl import errors
from agentctl.frozen import frozen
from agentctl.ops import files as session_files
from agentctl.ops.report import Report, silent

if TYPE_CHECKING:
    from agentctl.model import Volume
    from agentctl.ops.app import App
    from agentctl.ops.files import AnyFiles

Json = dict[str, Any]
Progress = Callable[[int, int | None], None]
"""Called with the bytes that were copied so far, and how many it will be where that is known."""

_VOLUME = "volume"


@frozen
class Where:
    """One side of a copy. ``name`` is a session or a volume; ``""`` on the host. ``provider`` is the volume's, where
    the name alone does not tell which one is meant."""

    kind: Literal["host", "session", "volume"]
    path: str
    name: str = ""
    provider: str | None = None

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
    """Copy: ``{"source", "target": what was written, "bytes"}``; those of a directory are its tar's. The target is a
    path, of a volume as ``cp`` takes it.

    Raise ``UsageError`` for a directory without ``recursive``, ``PathNotFound``, ``AlreadyExists``, ``DiskFull``, what
    ``volumes.find`` raises and what bringing a session's sandbox up raises.
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
        written = str((await to.stat(end))["path"])
        if target.kind == "volume":
            top = str((await to.stat("."))["path"])
            written = str(replace(target, path=posixpath.relpath(written, top)))
        return {"source": str(source), "target": written, "bytes": size}


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
    return posixpath.basename(session_files.real_path(about)) if name in ("", ".", "..") else name


async def _refuse_inside(app: App, source: Where, about: Json, target: Where, to: AnyFiles, end: str) -> None:
    if await _system(app, source) != await _system(app, target):
        return
    parent = session_files.real_path(await to.stat(posixpath.dirname(end.rstrip("/")) or "."))
    if f"{parent}/".startswith(session_files.real_path(about).rstrip("/") + "/"):
        raise errors.UsageError(f"{target} lies inside of {source}: a directory cannot be copied into itself.")


async def _system(app: App, where: Where) -> str:
    """Whose file system it is; a session or a volume that is separated from this host by nothing has ours."""
    if where.kind == "host":
        return ""
    if where.kind == "session":
        session = app.store.session(where.name)
        provider, owner = session.spec.provider, session.id
    else:
        provider, owner = (await _volume(app, where)).provider, where.name
    return "" if app.provider(provider).capabilities.boundary == "none" else f"{where.kind} {owner}"


@asynccontextmanager
async def _opened(app: App, where: Where, report: Report) -> AsyncIterator[AnyFiles]:
    if where.kind == "session":
        async with session_files.files_of(app, where.name, report) as files:
            yield files
        return
    if where.kind == "volume":
        from agentctl.ops.volume_files import files_of

        async with files_of(app, await _volume(app, where)) as files:
            yield files
        return
    from agentctl.supervisor.files.space import FileSpace
    from agentctl.supervisor.files.tree import Files

    yield Files(FileSpace(os.getcwd(), loose=True))


async def _volume(app: App, where: Where) -> Volume:
    from agentctl.ops import volumes

    return await volumes.find(app, where.name, where.provider)
