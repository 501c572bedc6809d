"""What sandboxes left in a Docker engine: containers, helpers, networks without containers, volumes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from agentctl.errors import AgentctlError, NotFound, SandboxError
from agentctl.providers.docker import images, near, shelf
from agentctl.providers.docker.backend import (
    INSTALLATION,
    PYTHON,
    ROLE,
    SANDBOX,
    VOLUME,
    Backend,
    remove_container,
    remove_labelled,
)
from agentctl.providers.docker.container import LOG, label_filters, users_labels
from agentctl.providers.docker.engine import Engine
from agentctl.providers.leftover import NEWEST, Leftover, Status
from agentctl.providers.trees import disk_bytes, remove_tree

Json = dict[str, Any]
_GRACE_S = 2
_STATUSES: dict[str, Status] = {"running": "running", "paused": "paused", "created": "failed", "dead": "failed"}


class DockerSweep(Backend):
    """Implements ``Sweeping``. A handle is ``{"engine": url, "id": the engine's own}``; a sandbox's and a volume's has
    what the provider's has, too."""

    async def leftovers(self, origin: str) -> AsyncIterator[Leftover]:
        engine = self.engine()
        for found, labels in await self._found(engine, origin):
            yield await self._seen(engine, found, labels)

    async def _found(self, engine: Engine, origin: str) -> list[tuple[Leftover, Json]]:
        """With the labels of each as the engine has them."""
        containers, networks, volumes = await engine.call("look for leftovers", lambda api: self._all(api, origin))
        helpers, sandboxes = [], {}
        for about in sorted(containers, key=lambda about: ROLE in about["Labels"]):
            if SANDBOX not in about["Labels"]:
                helpers.append((self._container(engine, about, "helper"), about["Labels"]))
            elif about["Labels"][SANDBOX] not in sandboxes:
                found = self._container(engine, about, "sandbox")
                sandboxes[about["Labels"][SANDBOX]] = found, about["Labels"]
        more = [
            *(self._plain(engine, a, "network") for a in networks if a["Labels"].get(SANDBOX) not in sandboxes),
            *(self._plain(engine, a, "volume") for a in volumes if VOLUME in a["Labels"]),
        ]
        return [*helpers, *sandboxes.values(), *more]

    def _all(self, api: Any, origin: str) -> tuple[list[Json], list[Json], list[Json]]:
        """Containers, networks and volumes that bear the origin, or are this state directory's and bear none."""
        found: tuple[Json, Json, Json] = ({}, {}, {})
        for label in (*label_filters({"origin": origin}), self.own_label()):
            wanted = {"label": [label]}
            containers, networks = api.containers(all=True, filters=wanted), api.networks(filters=wanted)
            volumes = api.volumes(filters=wanted)["Volumes"] or ()
            for kind, answer in zip(found, (containers, networks, volumes), strict=True):
                kind |= {about.get("Id") or about["Name"]: about for about in answer}
        ours = [[a for a in kind.values() if _origin(a) in (None, origin)] for kind in found]
        return ours[0], ours[1], ours[2]

    def _container(self, engine: Engine, about: Json, kind: Any) -> Leftover:
        return Leftover(
            kind=kind,
            id=about["Names"][0].removeprefix("/") if about["Names"] else about["Id"][:12],
            handle={"engine": engine.url, "id": about["Id"], "container": about["Id"], **_sandbox_of(about)},
            labels=users_labels(about["Labels"]),
            sandbox_id=about["Labels"].get(SANDBOX),
            created_at=float(about["Created"]) or None,
            status=_STATUSES.get(about["State"], "stopped"),
            own=about["Labels"].get(INSTALLATION) == self.installation,
        )

    async def _seen(self, engine: Engine, found: Leftover, labels: Json) -> Leftover:
        """With what can be told of its life at once, of one that is not ours: nobody here has its supervisor's token,
        and no store here knows who uses it."""
        if found.own:
            return found
        if found.kind == "volume":
            mates = {"label": [f"{INSTALLATION}={labels.get(INSTALLATION)}"]}
            if await engine.call("look for who uses a volume", lambda api: api.containers(all=True, filters=mates)):
                return replace(found, status="running")
            return replace(found, active_at=found.created_at)
        if found.kind != "sandbox" or found.status != "running" or PYTHON not in labels:
            return found
        argv = [labels[PYTHON], "-IS", "-c", NEWEST, LOG]
        with suppress(SandboxError, NotFound, ValueError):
            said = await engine.call("look at its log", lambda api: _said(api, found.handle["id"], argv))
            return replace(found, active_at=float(said))
        return found

    def _plain(self, engine: Engine, about: Json, kind: Any) -> tuple[Leftover, Json]:
        id_, created = (about["Name"], "CreatedAt") if kind == "volume" else (about["Id"], "Created")
        found = Leftover(
            kind=kind,
            id=about["Name"],
            handle={"engine": engine.url, "id": id_, **({"volume": id_} if kind == "volume" else {})},
            labels=users_labels(about["Labels"]),
            sandbox_id=about["Labels"].get(SANDBOX),
            created_at=datetime.fromisoformat(about[created]).timestamp(),
            status="stopped",
            own=about["Labels"].get(INSTALLATION) == self.installation,
        )
        return found, about["Labels"]

    async def leftover_now(self, leftover: Leftover) -> Leftover | None:
        engine = self.engine(leftover.handle["engine"])
        for found, labels in await self._found(engine, leftover.labels.get("origin", "")):
            if found.kind == leftover.kind and found.id == leftover.id:
                now = await self._seen(engine, found, labels)
                if now.kind == "volume" and now.active_at is not None:
                    return replace(now, active_at=await self._written_at(engine, now))
                return now
        return None

    async def _written_at(self, engine: Engine, volume: Leftover) -> float | None:
        """When something in it was last written to. None when that cannot be told."""
        with suppress(AgentctlError, ValueError):
            mountpoint = await shelf.mountpoint_of(engine, volume.handle["volume"])
            if mountpoint is not None and (top := near.place(engine, mountpoint)) is not None:
                return await asyncio.to_thread(near.written_at, top)
            image = await images.any_known(engine, self.paths)
            return await shelf.written_at(engine, volume.handle["volume"], image)
        return None

    async def size_bytes(self, leftover: Leftover) -> int | None:
        """A volume's where its directory can be looked into."""
        engine = self.engine(leftover.handle["engine"])
        if leftover.kind == "volume":
            mountpoint = await shelf.mountpoint_of(engine, leftover.handle["volume"])
            top = near.place(engine, mountpoint) if mountpoint is not None else None
            return await asyncio.to_thread(disk_bytes, top) if top is not None else None
        if leftover.kind == "network":
            return 0
        return await engine.call("measure what is left", lambda api: _written_bytes(api, leftover))

    async def remove_leftover(self, leftover: Leftover) -> None:
        engine = self.engine(leftover.handle["engine"])
        if leftover.kind == "sandbox":
            if leftover.status in ("running", "paused"):
                with suppress(NotFound):
                    await engine.call("stop the container", lambda api: _stop(api, leftover))
            await remove_labelled(engine, f"{SANDBOX}={leftover.sandbox_id}")
            if leftover.own and leftover.sandbox_id:
                await asyncio.to_thread(remove_tree, self.run_dir(leftover.sandbox_id))
            return
        remove = {"helper": remove_container, "network": _remove_network, "volume": _remove_volume}[leftover.kind]
        await engine.call(f"remove {leftover.id}", lambda api: remove(api, leftover.handle["id"]))


def _written_bytes(api: Any, leftover: Leftover) -> int:
    """What the containers of a sandbox, or this one, wrote beside their images."""
    label = (
        {"label": f"{SANDBOX}={leftover.sandbox_id}"} if leftover.kind == "sandbox" else {"id": leftover.handle["id"]}
    )
    return sum(about.get("SizeRw") or 0 for about in api.containers(all=True, size=True, filters=label))


def _sandbox_of(about: Json) -> Json:
    return {"sandbox": about["Labels"][SANDBOX]} if SANDBOX in about["Labels"] else {}


def _origin(about: Json) -> str | None:
    return users_labels(about["Labels"] or {}).get("origin")


def _said(api: Any, container: str, argv: list[str]) -> str:
    made = api.exec_create(container, argv, user="0:0", stderr=False)
    said: bytes = api.exec_start(made["Id"])
    return said.decode()


def _stop(api: Any, leftover: Leftover) -> None:
    if leftover.status == "paused":
        api.unpause(leftover.handle["id"])
    api.stop(leftover.handle["id"], timeout=_GRACE_S)


def _remove_network(api: Any, network: str) -> None:
    from docker import errors as sdk

    with suppress(sdk.NotFound):
        api.remove_network(network)


def _remove_volume(api: Any, volume: str) -> None:
    from docker import errors as sdk

    with suppress(sdk.NotFound):
        api.remove_volume(volume)
