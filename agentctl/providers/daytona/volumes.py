"""The volumes of the daytona provider: directories of an object store, which take whole files and little else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from agentctl import ids
from agentctl.errors import AgentctlError, Conflict, NotFound, SandboxError, UsageError, VolumeNotFound
from agentctl.model import Volume
from agentctl.paths import StatePaths
from agentctl.providers.base import NO_LABELS, Damaged, FilesDoor, unheard
from agentctl.providers.daytona import place, shelf
from agentctl.providers.daytona.boot import prepare, start_supervisor
from agentctl.providers.daytona.client import Account, api_url_of, call, connected
from agentctl.providers.daytona.create import patiently
from agentctl.providers.daytona.door import endpoint_to
from agentctl.providers.trees import check_relative
from agentctl.wire import Boot

Json = dict[str, Any]
READY_S = 180.0
"""A volume is made, and unmade, a while after Daytona said so."""

IN_USE_S = 30.0
FILES_IDLE_S = 60.0
_FIRST_POLL_S, _POLL_S = 0.1, 3.0
_GOING = ("pending_delete", "deleting", "deleted")


class DaytonaVolumes:
    """The part of ``Provider`` about volumes. A handle is ``{"api_url", "volume": Daytona's name for it}``."""

    name = "daytona"

    def __init__(self, paths: StatePaths) -> None:
        self.paths = paths
        self._writes: dict[tuple[str, str], str] = {}
        self.installation = hashlib.sha256(str(paths.root.resolve()).encode()).hexdigest()[:10]

    def account(self, api_url: str) -> Account:
        """The user's, for what was made at ``api_url``. Raise ``Conflict`` when another one is meant now."""
        if api_url != api_url_of(os.environ):
            raise Conflict(
                f"This was made at {api_url}, and DAYTONA_API_URL names {api_url_of(os.environ)}.",
                hint=f"export DAYTONA_API_URL={api_url}",
            )
        return Account.of(os.environ)

    async def volume_create(self, name: str, labels: Mapping[str, str] = NO_LABELS) -> Volume:
        ids.require_name(name, "a volume")
        account = Account.of(os.environ)
        new = place.VolumeName(place.origin_mark(labels.get("origin")), self.installation, name)
        async with connected(account) as daytona:
            full = next((str(one) for one in (await self._own(daytona)) if one.name == name), str(new))
            await _until(lambda: _is_settled(daytona, full), f"The old volume {name} was not gone")
            if await _state_of(daytona, full) == "deleted":
                with suppress(UsageError, Conflict):  # somebody else made it at the same time
                    await call(f"make the volume {name}", lambda: daytona.volume.create(full))
            return self._volume(account, await _ready(daytona, full), name)

    async def volume_list(self) -> list[Volume]:
        account = Account.of(os.environ)
        async with connected(account) as daytona:
            own = await self._own(daytona)
        return sorted((self._volume(account, about, named.name) for named, about in own.items()), key=lambda v: v.name)

    async def _own(self, daytona: Any) -> dict[place.VolumeName, Any]:
        return {
            named: about for named, about in await self.volumes_at(daytona) if named.installation == self.installation
        }

    async def volumes_at(self, daytona: Any) -> list[tuple[place.VolumeName, Any]]:
        """All that agentctl made in this account, whichever state directory did."""
        every = await call("list volumes", daytona.volume.list)
        named = [(place.VolumeName.of(about.name), about) for about in every if _state(about) not in _GOING]
        return [(name, about) for name, about in named if name is not None]

    async def volume_remove(self, volume: Volume) -> None:
        async with connected(self.account(volume.handle["api_url"])) as daytona:
            with suppress(NotFound):
                there = await _named(daytona, volume.handle["volume"])
                if _state(there) not in _GOING:
                    what = f"remove the volume {volume.name}"
                    await patiently(lambda: call(what, lambda: daytona.volume.delete(there)), IN_USE_S)

    def volume_path(self, volume: Volume, relative: str) -> Path | None:
        check_relative(relative)
        return None

    @asynccontextmanager
    async def volume_reading(self, volume: Volume, relative: str, damaged: Damaged = unheard) -> AsyncIterator[Path]:
        """What a session kept of its log is put together again."""
        check_relative(relative)
        with tempfile.TemporaryDirectory(prefix="agentctl-volume-") as scratch:
            kept, copy = Path(scratch) / "kept", Path(scratch) / "copy"
            with suppress(VolumeNotFound):
                if not await self._fetched_where_it_is_written(volume, relative, kept):
                    async with self._shelf(volume) as sandbox:
                        await shelf.fetch(sandbox, f"{place.WHOLE}/{relative}", kept)
                await asyncio.to_thread(_read_kept, kept, copy, damaged)
            yield copy

    def remember(self, volume: Volume, log: str, daytona_id: str) -> None:
        """That sandbox was started again just now, and has that log on its own disk; whoever reads it next asks it."""
        self._writes[volume.handle["volume"], log] = daytona_id

    async def _fetched_where_it_is_written(self, volume: Volume, relative: str, target: Path) -> bool:
        """Whether it is a log that a sandbox has which this process has just started again: it knows more of it than
        the volume, and costs no other sandbox."""
        from agentctl.supervisor.keep.log import MARK

        log = PurePosixPath(*PurePosixPath(relative).parts[:3])
        daytona_id = self._writes.pop((volume.handle["volume"], str(log)), None)
        if daytona_id is None:
            return False
        below, local = PurePosixPath(place.LOG) / PurePosixPath(relative).relative_to(log), target.with_name("local")
        with suppress(AgentctlError):  # it is gone again
            async with connected(self.account(volume.handle["api_url"])) as daytona:
                sandbox = await call("look for the sandbox", lambda: daytona.get(daytona_id))
                await shelf.fetch(sandbox, str(below), local, lives_on=True)
            if (local / MARK).exists():
                local.rename(target)
                return True
        return False

    @asynccontextmanager
    async def volume_files(self, volume: Volume) -> AsyncIterator[FilesDoor]:
        async with self._shelf(volume) as sandbox:
            name, token = ids.new_id("fil"), ids.new_token()
            await start_supervisor(sandbox, self.paths, _files_boot(name, token), await prepare(sandbox))
            account = self.account(volume.handle["api_url"])
            endpoint = await endpoint_to(account, sandbox, place.port_of(name))
            yield FilesDoor(endpoint=endpoint, token=token, root=place.WHOLE)

    async def session_remove(self, volume: Volume, session_id: str) -> None:
        ids.require_name(session_id, "a session")
        await self._delete(volume, f"agents/{session_id}")  # an empty volume stays: another takes long to make

    async def workspace_remove(self, volume: Volume, name: str) -> None:
        ids.require_name(name, "a workspace")
        await self._delete(volume, f"workspaces/{name}")

    async def _delete(self, volume: Volume, relative: str) -> None:
        with suppress(VolumeNotFound):
            async with self._shelf(volume) as sandbox:
                await shelf.delete_tree(sandbox, relative)

    @asynccontextmanager
    async def _shelf(self, volume: Volume) -> AsyncIterator[Any]:
        async with connected(self.account(volume.handle["api_url"])) as daytona:
            volume_id = await self.volume_id(daytona, volume)
            async with shelf.shelf(daytona, volume_id, self.installation) as sandbox:
                yield sandbox

    async def volume_id(self, daytona: Any, volume: Volume) -> str:
        """Daytona's id of it, now that it is ready. Raise ``VolumeNotFound``."""
        try:
            return str((await _ready(daytona, volume.handle["volume"])).id)
        except NotFound as e:
            raise VolumeNotFound(
                f"The volume {volume.name} is gone from Daytona.",
                hint=f"Somebody removed it. Forget it with: agentctl volumes delete {volume.name}",
            ) from e

    def _volume(self, account: Account, about: Any, name: str) -> Volume:
        return Volume(
            name=name,
            provider=self.name,
            handle={"api_url": account.api_url, "volume": about.name},
            created_at=timestamp(about.created_at) or 0.0,
        )


def timestamp(text: str | None) -> float | None:
    """Unix seconds of what Daytona says; None for what is no time."""
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


async def _named(daytona: Any, full: str) -> Any:
    return await call("find the volume", lambda: daytona.volume.get(full))


async def _ready(daytona: Any, full: str) -> Any:
    """The volume when it can be mounted. Raise ``NotFound``, ``SandboxError``."""
    found: list[Any] = []

    async def is_ready() -> bool:
        about = await _named(daytona, full)
        if _state(about) in _GOING:
            raise NotFound(f"The volume {full} is being deleted.")
        if _state(about) == "error":
            raise SandboxError(
                f"Daytona could not make the volume {full}: {about.error_reason or 'it does not say why'}"
            )
        found.append(about)
        return _state(about) == "ready"

    await _until(is_ready, f"The volume {full} was not ready")
    return found[-1]


async def _is_settled(daytona: Any, full: str) -> bool:
    """Whether it is there or gone, and not on its way."""
    state = await _state_of(daytona, full)
    return state == "deleted" or state not in _GOING


async def _state_of(daytona: Any, full: str) -> str:
    try:
        return _state(await _named(daytona, full))
    except NotFound:
        return "deleted"


async def _until(is_so: Callable[[], Awaitable[bool]], else_: str) -> None:
    deadline, pause = asyncio.get_running_loop().time() + READY_S, _FIRST_POLL_S
    while not await is_so():
        if asyncio.get_running_loop().time() > deadline:
            raise SandboxError(f"{else_} within {READY_S:g} s.", hint="Daytona is slow; try again in a while.")
        await asyncio.sleep(pause)
        pause = min(2 * pause, _POLL_S)


def _state(volume: Any) -> str:
    return str(getattr(volume.state, "value", volume.state))


def _read_kept(kept: Path, copy: Path, damaged: Damaged) -> None:
    from agentctl.supervisor.keep.read import assemble, reaches

    found = assemble(kept, copy)
    if found.problem is not None:
        damaged(found.problem, found.last, reaches(kept))
    for path in sorted(kept.rglob("*")):
        if path.is_file() and not path.name.endswith((".kept", ".begin", ".claim")):
            target = copy / path.relative_to(kept)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.rename(target)


def _files_boot(name: str, token: str) -> Boot:
    return Boot(
        sandbox_id=name,
        token=token,
        listen={"host": "127.0.0.1", "port": place.port_of(name)},
        log_root=place.LOG,
        home=place.WHOLE,
        tmp=place.TMP,
        root=place.WHOLE,
        idle_timeout_s=FILES_IDLE_S,
    )
