"""The volumes of the modal provider: each is two of Modal's, version 2.

One holds homes and workspaces, one the kept logs: a sandbox cannot mount two places of the same volume. Both are read
and cleared through Modal's own interface; only to write, a sandbox is made that has nothing else.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from agentctl import ids
from agentctl.errors import AgentctlError, NotFound, VolumeNotFound
from agentctl.model import Volume
from agentctl.paths import StatePaths
from agentctl.providers.base import NO_LABELS, Damaged, FilesDoor, unheard
from agentctl.providers.finish import finished
from agentctl.providers.modal import tags
from agentctl.providers.modal.create import Wanted, bring_up, end, forget
from agentctl.providers.modal.door import ask_to_leave, endpoint_to
from agentctl.providers.modal.place import LOG, PORT, TMP, WHOLE, installation_of, volume_names, volume_of
from agentctl.providers.modal.sdk import Sdk
from agentctl.providers.trees import check_relative, make_private_directory
from agentctl.wire import Boot

if TYPE_CHECKING:
    import modal

Json = dict[str, Any]
FILES_IDLE_S = 60.0
"""A supervisor that was left alone by its host, which was killed, leaves by itself."""

FILES_LIFE_S = 4 * 3600
COPY_S = 600.0
_AT_ONCE = 8
_V2 = 2


class ModalVolumes:
    """The part of ``Provider`` about volumes. A handle is ``{"homes", "logs"}``: Modal's names of the two."""

    name = "modal"

    def __init__(self, paths: StatePaths) -> None:
        self.paths = paths
        self.sdk = Sdk()
        self.installation = installation_of(paths.root)

    def token_file(self, sandbox_id: str) -> Path:
        """Where the token of a sandbox's supervisor is kept."""
        return self.paths.modal / "run" / sandbox_id

    async def volume_create(self, name: str, labels: Mapping[str, str] = NO_LABELS) -> Volume:
        ids.require_name(name, "a volume")
        names = volume_names(self.installation, name)
        homes, _ = await asyncio.gather(
            *(self.named_volume(f"make the volume {name}", one, make=True) for one in names)
        )
        return await self._described(name, homes)

    async def volume_list(self) -> list[Volume]:
        from modal import Volume as Theirs

        found = await self.sdk.call("list volumes", lambda client: Theirs.objects.list.aio(client=client))
        named = [(volume_of(self.installation, volume.name or ""), volume) for volume in found]
        return sorted([await self._described(name, volume) for name, volume in named if name], key=lambda v: v.name)

    async def _described(self, name: str, homes: modal.Volume) -> Volume:
        about = await self.sdk.call("look at a volume", lambda _: homes.info.aio())
        full, logs = volume_names(self.installation, name)
        return Volume(
            name=name,
            provider=self.name,
            handle={"homes": full, "logs": logs},
            created_at=about.created_at.timestamp(),
        )

    async def volume_remove(self, volume: Volume) -> None:
        from modal import Volume as Theirs

        async def delete(client: modal.Client) -> None:
            for full in (volume.handle["logs"], volume.handle["homes"]):  # what is listed goes last
                await Theirs.objects.delete.aio(full, allow_missing=True, client=client)

        await self.sdk.call(f"remove the volume {volume.name}", delete)

    def volume_path(self, volume: Volume, relative: str) -> Path | None:
        check_relative(relative)
        return None

    @asynccontextmanager
    async def volume_reading(self, volume: Volume, relative: str, damaged: Damaged = unheard) -> AsyncIterator[Path]:
        check_relative(relative)
        with tempfile.TemporaryDirectory(prefix="agentctl-volume-") as scratch:
            copy = Path(scratch) / "copy"
            with suppress(NotFound):
                await self._fetch(volume.handle["logs" if _is_log(relative) else "homes"], relative, copy)
                if _is_log(relative):
                    copy = await asyncio.to_thread(_assembled, copy, damaged)
            yield copy

    async def _fetch(self, full: str, relative: str, target: Path) -> None:
        """Only plain files and directories, each at its place below ``target``: links are somebody else's."""
        volume = await self.named_volume("read from a volume", full)
        entries = await self.sdk.call(
            "read from a volume", lambda _: volume.listdir.aio(relative, recursive=True), timeout_s=COPY_S
        )
        make_private_directory(target)
        top, turn = PurePosixPath(relative), asyncio.Semaphore(_AT_ONCE)

        async def fetch(path: PurePosixPath) -> None:
            place = target / path.relative_to(top)
            place.parent.mkdir(parents=True, exist_ok=True)
            async with turn:
                with place.open("wb") as file:
                    await self.sdk.call(
                        "read from a volume",
                        lambda _: volume.read_file_into_fileobj.aio(str(path), file),
                        timeout_s=COPY_S,
                    )

        paths = [PurePosixPath(entry.path.lstrip("/")) for entry in entries if entry.type.name == "FILE"]
        await asyncio.gather(*(fetch(path) for path in paths if ".." not in path.parts and path.is_relative_to(top)))

    @asynccontextmanager
    async def volume_files(self, volume: Volume) -> AsyncIterator[FilesDoor]:
        try:
            homes = await self.named_volume(f"find the volume {volume.name}", volume.handle["homes"])
        except NotFound as e:
            raise VolumeNotFound(
                f"The volume {volume.name} is gone from Modal.",
                hint=f"Somebody removed it. Forget it with: agentctl volumes delete {volume.name}",
            ) from e
        boot = _files_boot(ids.new_id("fil"))

        async def make(attempt: str) -> Wanted:
            return Wanted(boot.sandbox_id, boot, await self._files_only(homes), self._own_marks(attempt))

        token_file = self.token_file(boot.sandbox_id)
        up = await bring_up(self.sdk, self.paths, token_file, make)
        endpoint = endpoint_to(up.host, up.port)
        try:
            yield FilesDoor(endpoint=endpoint, token=boot.token, root=WHOLE)
        finally:
            await finished(self._put_away(up.modal_id, endpoint, boot.token))
            forget(token_file)

    async def _files_only(self, homes: modal.Volume) -> Json:
        import modal

        return {
            "image": modal.Image.debian_slim(),
            "volumes": {WHOLE: homes},
            "timeout": FILES_LIFE_S,
            "outbound_cidr_allowlist": [],
        }

    def _own_marks(self, attempt: str) -> dict[str, str]:
        return tags.own_tags(self.installation, attempt, time.time() + FILES_LIFE_S)

    async def _put_away(self, modal_id: str, endpoint: Any, token: str) -> None:
        """What it wrote is on the volume when it has ended in order."""
        sandbox = await self.sandbox(modal_id)
        if await ask_to_leave(endpoint, token):
            await self.wait_for_end(sandbox)
        await end(self.sdk, sandbox)

    async def sandbox(self, modal_id: str) -> modal.Sandbox:
        """As it is now: with the code that it has ended with, if it has. Raise ``NotFound``."""

        async def find(client: modal.Client) -> modal.Sandbox:
            import modal

            return await modal.Sandbox.from_id.aio(modal_id, client=client)

        return await self.sdk.call("look at the sandbox", find)

    async def wait_for_end(self, sandbox: modal.Sandbox, timeout_s: float = 20.0) -> None:
        """Return when it has ended, or after ``timeout_s``."""
        with suppress(AgentctlError):
            await self.sdk.call(
                "end the sandbox", lambda _: sandbox.wait.aio(raise_on_termination=False), timeout_s=timeout_s
            )

    async def session_remove(self, volume: Volume, session_id: str) -> bool:
        ids.require_name(session_id, "a session")
        await asyncio.gather(*(self._delete(full, f"agents/{session_id}") for full in volume.handle.values()))
        return await self._is_empty(volume.handle["homes"])

    async def _is_empty(self, full: str) -> bool:
        """But for the directory that homes were in."""
        with suppress(NotFound):
            volume = await self.named_volume("look into a volume", full)
            top = await self.sdk.call("look into a volume", lambda _: volume.listdir.aio("/"))
            if [entry.path for entry in top] == ["agents"]:
                return not await self.sdk.call("look into a volume", lambda _: volume.listdir.aio("agents"))
            return not top
        return True

    async def workspace_remove(self, volume: Volume, name: str) -> None:
        ids.require_name(name, "a workspace")
        await self._delete(volume.handle["homes"], f"workspaces/{name}")

    async def _delete(self, full: str, relative: str) -> None:
        with suppress(NotFound):
            volume = await self.named_volume("delete from a volume", full)
            await self.sdk.call(
                "delete from a volume",
                lambda _: volume.remove_file.aio(relative, recursive=True),
                timeout_s=COPY_S,
            )

    async def named_volume(self, what: str, full: str, *, make: bool = False) -> modal.Volume:
        """Raise ``NotFound`` for one that is not there and not to be made."""

        async def find(client: modal.Client) -> modal.Volume:
            import modal

            found = modal.Volume.from_name(full, create_if_missing=make, version=_V2, client=client)
            return await found.hydrate.aio(client)

        return await self.sdk.call(what, find)


def _is_log(relative: str) -> bool:
    parts = PurePosixPath(relative).parts
    return parts[:1] == ("agents",) and parts[2:3] == ("log",)


def _assembled(kept: Path, damaged: Damaged) -> Path:
    """The log of which these are the kept pieces, if they are any."""
    from agentctl.supervisor.keep.read import assemble, reaches

    if not any(kept.rglob("*.kept")):
        return kept
    log = kept.with_name("log")
    found = assemble(kept, log)
    if found.problem is not None:
        damaged(found.problem, found.last, reaches(kept))
    return log


def _files_boot(name: str) -> Boot:
    return Boot(
        sandbox_id=name,
        token=ids.new_token(),
        listen={"host": "0.0.0.0", "port": PORT},  # noqa: S104 - Modal's tunnel comes from outside
        log_root=LOG,
        home=WHOLE,
        tmp=TMP,
        root=WHOLE,
        idle_timeout_s=FILES_IDLE_S,
    )
