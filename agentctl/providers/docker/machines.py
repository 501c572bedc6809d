"""The part of the docker provider about images: which a sandbox gets, what runs in it, and how agents come there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentctl.compute import Compute
from agentctl.errors import NotFound, SandboxNotFound
from agentctl.providers.base import Machine, Progress, RuntimeBuild, RuntimeImage, SandboxSpec
from agentctl.providers.docker import agents_place, certificates, images
from agentctl.providers.docker.backend import Backend, sandbox_id_of
from agentctl.providers.docker.images import Image
from agentctl.providers.docker.start import Attempt

Json = dict[str, Any]


class DockerMachines(Backend):
    """The part of ``ImageProvider`` that is more than ``Provider``."""

    async def check_image(self, image: str | None, compute: Compute) -> str | None:
        if compute.ca_bundle is not None:
            certificates.read(compute.ca_bundle)
        if compute.dockerfile is not None:
            from agentctl.providers.docker import built

            return await built.name_of(compute)
        if image is None:
            from agentctl.providers.docker import default_image

            await default_image.name_of(self.engine())
        return image

    async def machine(self, spec_image: str | None, compute: Compute, progress: Progress) -> Machine:
        return _machine(await images.ready(self, self.engine(), spec_image, compute, progress))

    async def machine_of(self, handle: Json) -> Machine:
        engine = self.engine(handle["engine"])
        try:
            about = await engine.call("look at the container", lambda api: api.inspect_container(handle["container"]))
        except NotFound:
            raise SandboxNotFound(f"Sandbox {sandbox_id_of(handle)} is gone.") from None
        return _machine(await images.look(engine, self.paths, about["Image"]))

    async def bring(self, machine: Machine, directory: Path, key: str, progress: Progress) -> str:
        engine = self.engine()
        image = await images.look(engine, self.paths, machine.image)
        return await agents_place.bring(self, engine, image, directory, key, progress)

    async def build_runtime(self, request: RuntimeBuild, progress: Progress) -> RuntimeImage:
        from agentctl.providers.docker import default_image

        return await default_image.make(self, self.engine(), request, progress)

    async def _programs(self, attempt: Attempt, spec: SandboxSpec, labels: dict[str, str]) -> list[Any]:
        """Mounts of what runs in a sandbox, and of what that trusts."""
        mounts = [await agents_place.mount(self, attempt.engine, attempt.image)]
        if spec.compute.ca_bundle is not None:
            directory = self.run_dir(spec.sandbox_id) / "ca" if attempt.places else None
            mounts.append(certificates.mount(await self._bundle(attempt, spec), directory, labels))
        return mounts

    async def _send_bundle(self, attempt: Attempt, spec: SandboxSpec, made: str) -> None:
        """To a container whose engine does not see this host's files."""
        if spec.compute.ca_bundle is not None and attempt.places is None:
            archive = certificates.archive(await self._bundle(attempt, spec))
            await attempt.engine.call(
                "send certificates", lambda api: api.put_archive(made, certificates.PLACE, archive)
            )

    async def _bundle(self, attempt: Attempt, spec: SandboxSpec) -> str:
        """The image's own, and the given ones."""
        assert spec.compute.ca_bundle is not None
        own = await images.roots(attempt.engine, self.paths, attempt.image) or certificates.public_roots()
        return f"{own.rstrip()}\n{certificates.read(spec.compute.ca_bundle)}"


def _machine(image: Image) -> Machine:
    return Machine(image=image.name, platform=image.platform, node=image.node, node_version=image.node_version)
