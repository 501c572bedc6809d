"""The volumes of the daytona provider: directories of an object store, which take whole files and little else."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from agentctl import ids
from agentctl.errors import Conflict, NotFound, SandboxError, UsageError, VolumeNotFound
from agentctl.model import Volume
from agentctl.paths import StatePaths
from agentctl.providers.base import FilesDoor
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
        self.installation = hashlib.sha256(str(paths.root.resolve()).encode()).hexdigest()[:10]

    def account(self, api_url: str) -> Account:
        """The user's, for what was made at ``api_url``. Raise ``Conflict`` when another one is meant now."""
        if api_url != api_url_of(os.environ):
            raise Conflict(
                f"This was made at {api_url}, and DAYTONA_API_URL names {api_url_of(os.environ)}.",
                hint=f"export DAYTONA_API_URL={api_url}",
            )
        return Account.of(os.environ)

    async def volume_create(self, name: str) -> Volume:
        ids.require_name(name, "a volume")
        account = Account.of(os.environ)
        full = f"{self._prefix}{name}"
        async with connected(account) as daytona:
            await _until(lambda: _is_settled(daytona, full), f"The old volume {name} was not gone")
            if await _state_of(daytona, full) == "deleted":
                with suppress(UsageError, Conflict):  # somebody else made it at the same time
                    await call(f"make the volume {name}", lambda: daytona.volume.create(full))
            return self._volume(account, await _ready(daytona, full))

    async def volume_list(self) -> list[Volume]:
        account = Account.of(os.environ)
        async with connected(account) as daytona:
            every = await call("list volumes", daytona.volume.list)
        own = [v for v in every if v.name.startswith(self._prefix) and _state(v) not in _GOING]
        return sorted((self._volume(account, volume) for volume in own), key=lambda v: v.name)

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
    async def volume_reading(self, volume: Volume, relative: str) -> AsyncIterator[Path]:
        """What a session kept of its log is put together again."""
        check_relative(relative)
        with tempfile.TemporaryDirectory(prefix="agentctl-volume-") as scratch:
            kept, copy = Path(scratch) / "kept", Path(scratch) / "copy"
            with suppress(VolumeNotFound):
                async with self._shelf(volume) as sandbox:
                    await shelf.fetch(sandbox, relative, kept)
                await asyncio.to_thread(_read_kept, kept, copy)
            yield copy

    @asynccontextmanager
    async def volume_files(self, volume: Volume) -> AsyncIterator[FilesDoor]:
        async with self._shelf(volume) as sandbox:
            name, token = ids.new_id("fil"), secrets.token_urlsafe(32)
            await start_supervisor(sandbox, self.paths, _files_boot(name, token), await prepare(sandbox))
            account = self.account(volume.handle["api_url"])
            endpoint = await endpoint_to(account, sandbox, place.port_of(name))
            yield FilesDoor(endpoint=endpoint, token=token, root=place.WHOLE)

    async def session_remove(self, volume: Volume, session_id: str) -> bool:
        ids.require_name(session_id, "a session")
        await self._delete(volume, f"agents/{session_id}")
        return False  # an empty one is in nobody's way, and another takes long to make

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

    @property
    def _prefix(self) -> str:
        return f"agentctl-{self.installation}-"

    def _volume(self, account: Account, about: Any) -> Volume:
        return Volume(
            name=about.name.removeprefix(self._prefix),
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


def _read_kept(kept: Path, copy: Path) -> None:
    from agentctl.supervisor.keep.read import assemble

    if not kept.is_dir():
        return
    assemble(kept, copy)
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
