"""The files of a session's sandbox: brought up when it sleeps, but without its agent."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.ops import reach
from agentctl.ops.own import Ref, find
from agentctl.ops.report import Report, silent

if TYPE_CHECKING:
    from agentctl.model import Session
    from agentctl.ops.app import App
    from agentctl.supervisor.files.tree import Files, Reading
    from agentctl.supervisor_client.files import FilesClient

    AnyFiles = Files | FilesClient

Json = dict[str, Any]
MAX_TEXT_BYTES = 16 * 1024 * 1024


@asynccontextmanager
async def files_of(app: App, ref: Ref, report: Report = silent) -> AsyncIterator[FilesClient]:
    """The files of a session; relative paths begin in its working directory. Raise ``SessionNotFound``, and what
    bringing a sandbox up raises. Every op may raise that too, and what ``supervisor.files.Files`` says of its call."""
    session = find(app, ref)
    async with reach.sandbox_of(app, session, report) as client:
        from agentctl.supervisor_client.files import FilesClient

        yield FilesClient(client, base_of(session))


def base_of(session: Session) -> str:
    """The session's working directory, or the root that its files are confined to where that lies elsewhere."""
    root, cwd = session.spec.root, session.spec.cwd or ""
    if root is None or posixpath.commonpath([root, posixpath.normpath(cwd or "/")]) == posixpath.normpath(root):
        return cwd
    return root


async def entries(app: App, ref: Ref, path: str, report: Report = silent) -> list[Json]:
    """``[FsEntry]`` of a directory; of a file, that one entry."""
    async with files_of(app, ref, report) as files:
        return await listed(files, path)


async def listed(files: AnyFiles, path: str) -> list[Json]:
    """``[FsEntry]`` of a directory; of a file, that one entry."""
    about = await files.stat(path)
    if about["entryType"] == "directory":
        return await files.entries(path)
    return [{"name": path, **about}]


async def stat(app: App, ref: Ref, path: str, report: Report = silent) -> Json:
    async with files_of(app, ref, report) as files:
        return await files.stat(path)


async def remove(app: App, ref: Ref, paths: list[str], *, recursive: bool = False, report: Report = silent) -> Json:
    """Remove one after the other: ``{"removed": [path]}``. The first that fails ends it."""
    async with files_of(app, ref, report) as files:
        return {"removed": [(await files.delete(path, recursive=recursive))["path"] for path in paths]}


async def mkdir(app: App, ref: Ref, path: str, report: Report = silent) -> Json:
    async with files_of(app, ref, report) as files:
        return await files.mkdir(path)


async def move(app: App, ref: Ref, source: str, to: str, *, overwrite: bool = False, report: Report = silent) -> Json:
    """As ``mv``: into ``to`` where that is a directory."""
    async with files_of(app, ref, report) as files:
        return await moved(files, source, to, overwrite=overwrite)


async def moved(files: AnyFiles, source: str, to: str, *, overwrite: bool) -> Json:
    """As ``mv``: into ``to`` where that is a directory."""
    if await is_directory(files, to):
        to = posixpath.join(to, posixpath.basename(source.rstrip("/")))
    return await files.move(source, to, overwrite=overwrite)


async def edit(
    app: App, ref: Ref, path: str, old: str, new: str, *, everywhere: bool = False, report: Report = silent
) -> Json:
    async with files_of(app, ref, report) as files:
        return await files.edit(path, old, new, everywhere=everywhere)


async def write(app: App, ref: Ref, path: str, chunks: AsyncIterator[bytes], report: Report = silent) -> Json:
    async with files_of(app, ref, report) as files:
        return await files.write(path, chunks)


@asynccontextmanager
async def reading(app: App, ref: Ref, path: str, report: Report = silent) -> AsyncIterator[Reading]:
    """A file, while it is read."""
    async with files_of(app, ref, report) as files, files.read(path) as found:
        yield found


async def content(app: App, ref: Ref, path: str, report: Report = silent) -> Json:
    """A small file as JSON: ``{"path", "size", "encoding": "utf-8"|"base64", "content"}``. Raise ``BodyTooLarge``."""
    async with files_of(app, ref, report) as files:
        return await content_of(files, path)


async def content_of(files: AnyFiles, path: str) -> Json:
    """A small file as JSON, see ``content``."""
    parts: list[bytes] = []
    size = 0
    async with files.read(path) as file:
        async for chunk in file.chunks:
            size += len(chunk)
            if size > MAX_TEXT_BYTES:
                raise errors.BodyTooLarge(
                    f"{path} is larger than {MAX_TEXT_BYTES} bytes, too much for JSON.",
                    hint="Leave out --json, or copy it with: agentctl cp",
                )
            parts.append(chunk)
    data = b"".join(parts)
    try:
        return {"path": path, "size": size, "encoding": "utf-8", "content": data.decode()}
    except UnicodeDecodeError:
        import base64

        return {"path": path, "size": size, "encoding": "base64", "content": base64.b64encode(data).decode()}


async def is_directory(files: AnyFiles, path: str) -> bool:
    """Whether there is a directory of that path."""
    try:
        return bool((await files.stat(path))["entryType"] == "directory")
    except errors.PathNotFound:
        return False


def real_path(about: Json) -> str:
    """The exact path that a stat tells of, links resolved."""
    if "rawPath" not in about:
        return str(about["path"])
    import os
    from urllib.parse import unquote_to_bytes

    return os.fsdecode(unquote_to_bytes(about["rawPath"]))
