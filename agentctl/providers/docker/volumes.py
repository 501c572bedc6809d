"""The volumes of the docker provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from agentctl import ids
from agentctl.errors import NotFound, VolumeNotFound
from agentctl.model import Volume
from agentctl.providers.base import NO_LABELS, Damaged, FilesDoor, unheard
from agentctl.providers.docker import container, images, near, shelf
from agentctl.providers.docker.backend import ATTEMPT, VOLUME, Backend, remove_labelled
from agentctl.providers.docker.engine import Engine
from agentctl.providers.docker.start import Attempt, Made, both, bring_up
from agentctl.providers.finish import finished
from agentctl.providers.trees import check_relative, remove_tree
from agentctl.wire import Boot

Json = dict[str, Any]
FILES_IDLE_S = 60.0
"""A supervisor that was left alone by its host, which was killed, leaves by itself."""


class DockerVolumes(Backend):
    """The part of ``Provider`` about volumes. A handle is ``{"engine": url, "volume": the engine's name for it}``."""

    async def volume_create(self, name: str, labels: Mapping[str, str] = NO_LABELS) -> Volume:
        ids.require_name(name, "a volume")
        engine = self.engine()
        full = f"agentctl-{self.installation}-{name}"
        marks = self.volume_labels(name, labels)
        about = await engine.call(f"make the volume {name}", lambda api: api.create_volume(full, labels=marks))
        return self._volume(engine, about)

    async def volume_list(self) -> list[Volume]:
        engine = self.engine()
        wanted = {"label": [self.own_label(), VOLUME]}
        answer = await engine.call("list volumes", lambda api: api.volumes(filters=wanted))
        return sorted((self._volume(engine, about) for about in answer["Volumes"] or ()), key=lambda v: v.name)

    async def volume_remove(self, volume: Volume) -> None:
        with suppress(NotFound):
            await self.engine(volume.handle["engine"]).call(
                f"remove the volume {volume.name}", lambda api: api.remove_volume(volume.handle["volume"])
            )

    def volume_path(self, volume: Volume, relative: str) -> Path | None:
        check_relative(relative)
        return None

    @asynccontextmanager
    async def volume_reading(self, volume: Volume, relative: str, damaged: Damaged = unheard) -> AsyncIterator[Path]:
        check_relative(relative)
        engine = self.engine(volume.handle["engine"])
        image = await images.any_known(engine, self.paths)
        async with shelf.reading(engine, volume.handle["volume"], image, relative) as copy:
            yield copy

    @asynccontextmanager
    async def volume_files(self, volume: Volume) -> AsyncIterator[FilesDoor]:
        engine = self.engine(volume.handle["engine"])
        mountpoint = await shelf.mountpoint_of(engine, volume.handle["volume"])
        if mountpoint is None:
            raise VolumeNotFound(
                f"The volume {volume.name} is gone from the Docker engine.",
                hint=f"Somebody removed it. Forget it with: agentctl volumes delete {volume.name}",
            )
        image = await images.any_known(engine, self.paths)
        name = ids.new_id("fil")
        token = ids.new_token()
        label: list[str] = []

        async def make(attempt: Attempt) -> Made:
            label.append(f"{ATTEMPT}={attempt.label}")
            return await self._make_files_only(attempt, volume, mountpoint)

        made = await bring_up(self, engine, image, name, _files_boot(name, token), make)
        try:
            endpoint = await self.endpoint_of(engine, made, image.python, name)
            yield FilesDoor(endpoint=endpoint, token=token, root=shelf.PLACE)
        finally:
            await finished(remove_labelled(engine, label[0]))
            remove_tree(self.run_dir(name))

    async def _make_files_only(self, attempt: Attempt, volume: Volume, mountpoint: str) -> Made:
        labels = {**self.installation_labels(), ATTEMPT: attempt.label}
        full = volume.handle["volume"]
        made, helper = await both(
            attempt.engine.call(
                "reach into a volume",
                lambda api: container.create_files_only(api, attempt.image, full, attempt.places, labels),
            ),
            shelf.make_directories(attempt.engine, full, attempt.image, [shelf.TOP], labels, mountpoint),
        )
        return Made(made, helper)

    async def session_remove(self, volume: Volume, session_id: str) -> bool:
        ids.require_name(session_id, "a session")
        return await self._delete(volume, f"agents/{session_id}")

    async def workspace_remove(self, volume: Volume, name: str) -> None:
        ids.require_name(name, "a workspace")
        await self._delete(volume, f"workspaces/{name}")

    async def _delete(self, volume: Volume, relative: str) -> bool:
        """Return whether the volume holds nothing any more."""
        engine = self.engine(volume.handle["engine"])
        mountpoint = await shelf.mountpoint_of(engine, volume.handle["volume"])
        if mountpoint is None:
            return True
        if (top := near.place(engine, mountpoint)) is not None:
            return await asyncio.to_thread(near.delete_tree, top, relative)
        image = await images.any_known(engine, self.paths)
        return await shelf.delete_tree(engine, volume.handle["volume"], image, relative)

    def _volume(self, engine: Engine, about: Json) -> Volume:
        return Volume(
            name=about["Labels"][VOLUME],
            provider=self.name,
            handle={"engine": engine.url, "volume": about["Name"]},
            created_at=datetime.fromisoformat(about["CreatedAt"]).timestamp(),
        )


def _files_boot(name: str, token: str) -> Boot:
    return Boot(
        sandbox_id=name,
        token=token,
        listen=container.LISTEN,
        log_root=f"{container.TMP}/log",
        home=shelf.PLACE,
        tmp=container.TMP,
        root=shelf.PLACE,
        idle_timeout_s=FILES_IDLE_S,
        agent_uid=shelf.AGENT_USER,
        agent_gid=shelf.AGENT_USER,
    )
