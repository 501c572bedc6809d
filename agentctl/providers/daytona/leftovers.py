"""What sandboxes left at Daytona: sandboxes in any state, helpers that work on volumes or make snapshots, and this
state directory's volumes, and those of others that were made with the same origin. A volume bears no labels: its name
has a mark of the origin.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from agentctl.errors import AgentctlError, Conflict, NotFound, VolumeNotFound
from agentctl.model import Volume
from agentctl.providers.daytona import place
from agentctl.providers.daytona.boot import run
from agentctl.providers.daytona.client import Account, call, connected
from agentctl.providers.daytona.create import deleted
from agentctl.providers.daytona.provider import DaytonaProvider, found_of, listed
from agentctl.providers.daytona.states import FAILED, status_of
from agentctl.providers.daytona.volumes import timestamp
from agentctl.providers.leftover import NEWEST, Leftover, Status, of_volume

Json = dict[str, Any]
_LOOK_S = 20


class DaytonaSweep(DaytonaProvider):
    """Implements ``Sweeping``. A sandbox's handle is the provider's, and so is a volume's."""

    async def leftovers(self, origin: str) -> AsyncIterator[Leftover]:
        account = Account.of(os.environ)
        async with connected(account) as daytona:
            found = await _bearing(daytona, place.label_filter({"origin": origin}, self.installation))
            found |= await _bearing(daytona, {place.INSTALLATION: self.installation})
        for sandbox in found.values():
            # Daytona's list may lag behind what it made and unmade.
            if _origin(sandbox) in (None, origin) and status_of(sandbox)[0] != "missing":
                yield self._leftover(account, sandbox)
        for volume in await self._volumes(account, origin):
            yield volume

    async def _volumes(self, account: Account, origin: str) -> list[Leftover]:
        async with connected(account) as daytona:
            mark, found = place.origin_mark(origin), []
            for named, about in await self.volumes_at(daytona):
                if named.installation == self.installation and named.origin in (None, mark):
                    found.append(of_volume(self._volume(account, about, named.name)))
                elif named.installation != self.installation and named.origin == mark is not None:
                    found.append(await self._of_others(daytona, account, named, about))
        return found

    async def _of_others(self, daytona: Any, account: Account, named: place.VolumeName, about: Any) -> Leftover:
        """While there is a sandbox of that state directory's, nobody knows here what it wants."""
        volume = self._volume(account, about, named.name)
        in_use = await _bearing(daytona, {place.INSTALLATION: named.installation})
        active_at = timestamp(about.last_used_at) or volume.created_at or None
        return replace(
            of_volume(volume),
            id=about.name,
            own=False,
            status="running" if in_use else "stopped",
            active_at=None if in_use else active_at,
        )

    def _leftover(self, account: Account, sandbox: Any) -> Leftover:
        sandbox_id = sandbox.labels.get(place.SANDBOX)
        own = sandbox.labels.get(place.INSTALLATION) == self.installation
        return Leftover(
            kind="helper" if sandbox_id is None else "sandbox",
            id=sandbox.name,
            handle=self._handle(account, sandbox.id, sandbox_id or ""),
            labels=place.users_labels(sandbox.labels),
            sandbox_id=sandbox_id,
            created_at=timestamp(sandbox.created_at),
            status=_status(sandbox),
            own=own,
            active_at=None if own else timestamp(sandbox.last_activity_at),
        )

    async def size_bytes(self, leftover: Leftover) -> None:
        """Nothing here tells."""

    async def leftover_now(self, leftover: Leftover) -> Leftover | None:
        """Of one that is not ours, its log tells when it was last active: what Daytona knows of may be our own look.
        Raise ``Conflict`` when it bears other labels than it did."""
        account = self.account(leftover.handle["api_url"])
        if leftover.kind == "volume":
            return await self._volume_now(account, leftover)
        async with connected(account) as daytona:
            with suppress(NotFound):
                sandbox = await found_of(daytona, leftover.handle)
                if status_of(sandbox)[0] == "missing":
                    return None
                now = self._leftover(account, sandbox)
                if (now.sandbox_id, now.labels, now.own) != (leftover.sandbox_id, leftover.labels, leftover.own):
                    raise Conflict(f"The sandbox {leftover.id} was given other labels meanwhile.")
                if now.own or now.status != "running":
                    return now
                return replace(now, active_at=await _log_written_at(sandbox) or now.active_at)
        return None

    async def _volume_now(self, account: Account, leftover: Leftover) -> Leftover | None:
        async with connected(account) as daytona:
            for named, about in await self.volumes_at(daytona):
                if about.name == leftover.handle["volume"]:
                    return leftover if leftover.own else await self._of_others(daytona, account, named, about)
        return None

    async def remove_leftover(self, leftover: Leftover) -> None:
        if leftover.kind == "sandbox":
            await self.remove(leftover.handle, at_once=True)
            return
        if leftover.kind == "helper":
            async with connected(self.account(leftover.handle["api_url"])) as daytona:
                with suppress(NotFound):
                    await deleted(await found_of(daytona, leftover.handle))
            return
        volume = Volume(name=leftover.id, provider=self.name, handle=leftover.handle, created_at=0)
        with suppress(VolumeNotFound):
            await self.volume_remove(volume)


async def _bearing(daytona: Any, labels: dict[str, str]) -> dict[str, Any]:
    """By Daytona's ids. Its filter is not taken for granted: what is found may be deleted."""
    found = await call("list sandboxes", lambda: listed(daytona, labels))
    return {sandbox.id: sandbox for sandbox in found if labels.items() <= sandbox.labels.items()}


def _status(sandbox: Any) -> Status:
    if str(getattr(sandbox.state, "value", sandbox.state)) in FAILED:
        return "failed"
    return "running" if status_of(sandbox)[0] == "running" else "stopped"


def _origin(sandbox: Any) -> str | None:
    return place.users_labels(sandbox.labels).get("origin")


async def _log_written_at(sandbox: Any) -> float | None:
    with suppress(AgentctlError, ValueError):
        script = f"python3 -IS -c '{NEWEST}' {place.LOG}"
        code, said = await run(sandbox, "look at its log", script, _LOOK_S)
        return float(said) if code == 0 else None
    return None
