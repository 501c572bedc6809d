"""How agents come into sandboxes: by a volume of their own, which every sandbox mounts, to be read only."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl.compute import Compute
from agentctl.errors import NotFound, SandboxNotFound, Unsupported
from agentctl.frozen import frozen
from agentctl.providers.base import Machine, Progress, RuntimeBuild, RuntimeImage
from agentctl.providers.modal import image
from agentctl.providers.modal.create import detached
from agentctl.providers.modal.place import LAYOUT, sandbox_id_of
from agentctl.providers.modal.volumes import COPY_S, ModalVolumes

if TYPE_CHECKING:
    import modal

Json = dict[str, Any]
PLATFORM = "linux-x64"
"""Of all machines at Modal; what is brought is made for glibc."""

_DONE = ".brought"


@frozen
class ModalMachine(Machine):
    """``lives_in`` is Modal's id of the sandbox that it is, if there is one: it has to be told what is new."""

    lives_in: str | None = None


class ModalAgents(ModalVolumes):
    """The part of ``ImageProvider`` that is more than ``Provider``."""

    async def check_image(self, name: str | None, compute: Compute) -> str | None:
        return name if compute.dockerfile is not None else name or image.DEFAULT

    async def machine(self, spec_image: str | None, compute: Compute, progress: Progress) -> Machine:
        return ModalMachine(image=compute.dockerfile or spec_image or image.DEFAULT, platform=PLATFORM)

    async def machine_of(self, handle: Json) -> Machine:
        sandbox_id = sandbox_id_of(handle)
        try:
            await self.sandbox(handle["modal"])
        except NotFound:
            raise SandboxNotFound(f"Sandbox {sandbox_id} is gone.") from None
        return ModalMachine(image=f"the image of {sandbox_id}", platform=PLATFORM, lives_in=handle["modal"])

    async def bring(self, machine: Machine, directory: Path, key: str, progress: Progress) -> str:
        volume = await self.agents_volume()
        if not await self._is_there(volume, f"{_DONE}/{key}"):
            progress(f"Sending {key.partition('-')[0]} to Modal", None, None)
            await self._send(volume, directory, key)
            # Only now, in a commit of its own: whoever dies before leaves something that is sent once more.
            await self._send(volume, None, f"{_DONE}/{key}")
        if isinstance(machine, ModalMachine) and machine.lives_in is not None:
            await self._reload(machine.lives_in)
        return f"{LAYOUT.agents}/{key}"

    async def build_runtime(self, request: RuntimeBuild, progress: Progress) -> RuntimeImage:
        raise Unsupported(
            "Sandboxes at modal need no image of their own.",
            hint=f"Without --image they are made from {image.DEFAULT}; agents bring what they need.",
        )

    async def agents_volume(self) -> modal.Volume:
        return await self.named_volume("find the agents", f"agentctl-{self.installation}.agents", make=True)

    async def _is_there(self, volume: modal.Volume, path: str) -> bool:
        try:
            await self.sdk.call("look for the agent", lambda _: volume.listdir.aio(path))
        except NotFound:
            return False
        return True

    async def _send(self, volume: modal.Volume, directory: Path | None, remote: str) -> None:
        async def put(_: Any) -> None:
            async with volume.batch_upload(force=True) as batch:
                if directory is not None:
                    batch.put_directory(directory, f"/{remote}")
                else:
                    batch.put_file(BytesIO(b""), f"/{remote}")

        await self.sdk.call("take the agent", put, timeout_s=COPY_S)

    async def _reload(self, modal_id: str) -> None:
        sandbox = await self.sandbox(modal_id)
        await self.sdk.call("show the sandbox its agent", lambda _: sandbox.reload_volumes.aio())
        await detached(sandbox)
