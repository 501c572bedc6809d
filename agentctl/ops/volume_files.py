"""The files of a volume, with no sandbox alive: their paths begin at the volume's top, given and answered alike."""

from __future__ import annotations

import os
import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes

from agentctl.ops import files as any_files

if TYPE_CHECKING:
    from agentctl.model import SessionSpec, Volume
    from agentctl.ops.app import App
    from agentctl.ops.files import AnyFiles
    from agentctl.supervisor.files.tree import Reading

Json = dict[str, Any]


@asynccontextmanager
async def files_of(app: App, volume: Volume) -> AsyncIterator[AnyFiles]:
    """The files themselves, or what reaches them; answers have absolute paths. Raise ``VolumeNotFound``, and what the
    provider raises."""
    async with app.provider(volume.provider).volume_files(volume) as found:
        from agentctl.providers.base import FilesDoor

        if not isinstance(found, FilesDoor):
            yield found
            return
        from agentctl.supervisor_client import SupervisorClient
        from agentctl.supervisor_client.files import FilesClient

        async with SupervisorClient(found.endpoint, found.token) as client:
            yield FilesClient(client, found.root)


@asynccontextmanager
async def opened(app: App, name: str, provider: str | None = None) -> AsyncIterator[VolumeFiles]:
    """Raise what ``volumes.find`` and ``files_of`` raise."""
    from agentctl.ops import volumes

    volume = await volumes.find(app, name, provider)
    async with files_of(app, volume) as files:
        yield VolumeFiles(app, volume, files, any_files.real_path(await files.stat(".")))


class VolumeFiles:
    """The methods promise what ``supervisor.files.Files`` does. A ``/`` at the start of a path is the volume's top.

    What takes the HOME or the log of a session away raises ``InUse``, unless ``force``: its sandbox may be running.
    """

    def __init__(self, app: App, volume: Volume, files: AnyFiles, top: str) -> None:
        self._app = app
        self._volume = volume
        self._files = files
        self._top = top

    async def entries(self, path: str) -> list[Json]:
        """``[FsEntry]`` of a directory; of a file, that one entry."""
        return [self._told(entry) for entry in await any_files.listed(self._files, _given(path))]

    async def stat(self, path: str) -> Json:
        return self._told(await self._files.stat(_given(path)))

    async def content(self, path: str) -> Json:
        """As ``ops.files.content``."""
        return await any_files.content_of(self._files, _given(path))

    @asynccontextmanager
    async def read(self, path: str) -> AsyncIterator[Reading]:
        async with self._files.read(_given(path)) as reading:
            yield reading

    async def write(self, path: str, chunks: AsyncIterator[bytes]) -> Json:
        return self._told(await self._files.write(_given(path), chunks))

    async def mkdir(self, path: str) -> Json:
        return self._told(await self._files.mkdir(_given(path)))

    async def move(self, source: str, to: str, *, overwrite: bool = False, force: bool = False) -> Json:
        """As ``mv``: into ``to`` where that is a directory."""
        await self._refuse_used(_given(source), force)
        return self._told(await any_files.moved(self._files, _given(source), _given(to), overwrite=overwrite))

    async def remove(self, paths: list[str], *, recursive: bool = False, force: bool = False) -> Json:
        """Remove one after the other: ``{"removed": [path]}``. The first that fails ends it; none is removed when one
        of them is in use."""
        for path in paths:
            await self._refuse_used(_given(path), force)
        done = [self._told(await self._files.delete(_given(path), recursive=recursive)) for path in paths]
        return {"removed": [one["path"] for one in done]}

    async def _refuse_used(self, path: str, force: bool) -> None:
        if force:
            return
        from agentctl.ops import volumes

        parent = any_files.real_path(await self._files.stat(posixpath.dirname(path.rstrip("/")) or "."))
        entry = posixpath.relpath(posixpath.join(parent, posixpath.basename(path.rstrip("/"))), self._top)
        all_users = volumes.users_of(self._app, self._volume)
        users = volumes.Users(
            sessions=tuple(s for s in all_users.sessions if _holds(entry, s.id, s.spec)),
            sandboxes=tuple(s for s in all_users.sandboxes if _holds(entry, s.id, s.spec)),
        )
        hint = "--force does it all the same; one that runs there loses its HOME or its log at once."
        volumes.refuse_used(f"{entry} of the volume {self._volume.name}", users, force=False, hint=hint)

    def _told(self, answer: Json) -> Json:
        """With paths from the volume's top on."""
        told = dict(answer)
        for key in ("path", "from", "to"):
            if key in told:
                told[key] = posixpath.relpath(told[key], _text(self._top))
        if "rawPath" in told:
            told["rawPath"] = quote(posixpath.relpath(unquote_to_bytes(told["rawPath"]), os.fsencode(self._top)))
        return told


def _given(path: str) -> str:
    return path.lstrip("/") or "."


def _holds(entry: str, owner: str, spec: SessionSpec | None) -> bool:
    """Whether the entry is, or contains, the HOME or the log of the session or sandbox ``owner``."""
    own = f"agents/{owner}"
    home = f"workspaces/{spec.workspace}" if spec and spec.workspace else f"{own}/home"
    return any(f"{place}/".startswith(f"{entry}/") for place in (home, f"{own}/log"))


def _text(path: str) -> str:
    from agentctl.supervisor.files.tree import text_of

    return text_of(path)
