"""The control plane: apps, images, sandboxes, and what an image's layers bring along."""

from __future__ import annotations

import asyncio
import hashlib
import shlex
from pathlib import PurePosixPath
from types import SimpleNamespace

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

from tests.emulators.modal.machine import Sandbox, _join

PAGE = 2
LONGEST_S = 24 * 3600
BUILDER = "2025.06"
JWT = "e30.eyJleHAiOjQxMDI0NDQ4MDB9.e30"
"""``{}.{"exp": 2100-01-01}.{}``: the SDK reads when it expires."""


class Control:
    """``sandboxes`` are all there ever were, by id."""

    def __init__(self, emulator):
        self._emulator = emulator
        self._files: dict[str, bytes] = {}
        self._mounts: dict[str, list] = {}
        self.images: dict[str, api_pb2.Image] = {}
        self.sandboxes: dict[str, Sandbox] = {}
        self._names: set[str] = set()
        self._egress = None
        self.broken_images: set[str] = set()
        """Words of a Dockerfile with which no image can be built."""

    # apps
    async def ClientHello(self, request):
        return api_pb2.ClientHelloResponse(image_builder_version=BUILDER)

    async def AuthTokenGet(self, request):
        return api_pb2.AuthTokenGetResponse(token=JWT)

    async def AppGetOrCreate(self, request):
        return api_pb2.AppGetOrCreateResponse(app_id=f"ap-{request.app_name}")

    async def EnvironmentGetOrCreate(self, request):
        settings = api_pb2.EnvironmentSettings(image_builder_version=BUILDER)
        metadata = api_pb2.EnvironmentMetadata(name="main", settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-main", metadata=metadata)

    # images
    async def ImageGetOrCreate(self, request):
        image_id = "im-" + hashlib.sha256(request.image.SerializeToString(deterministic=True)).hexdigest()[:22]
        self.images[image_id] = request.image
        broken = any(word in line for word in self.broken_images for line in request.image.dockerfile_commands)
        lacks = self._lacks(request.image)
        if broken or lacks:
            failed = api_pb2.GenericResult(
                status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE,
                exception=f"{lacks[0]} is not in the context" if lacks else "no such image",
            )
            return api_pb2.ImageGetOrCreateResponse(image_id=image_id, result=failed)
        done = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
        metadata = api_pb2.ImageMetadata(image_builder_version=BUILDER)
        return api_pb2.ImageGetOrCreateResponse(image_id=image_id, result=done, metadata=metadata)

    def _lacks(self, image):
        """What the Dockerfile copies and was not sent."""
        there = [file.filename.lstrip("/") for file in self._mounts.get(image.context_mount_id, ())]
        copied = [line.split()[1] for line in image.dockerfile_commands if line.startswith("COPY ")]
        own = [name for name in copied if not name.startswith(("--", "/."))]
        return [name for name in own if not any(f"{one}/".startswith(f"{name.rstrip('/')}/") for one in there)]

    async def ImageFromId(self, request):
        if request.image_id not in self.images:
            raise GRPCError(Status.NOT_FOUND, f"Image {request.image_id!r} not found")
        metadata = api_pb2.ImageMetadata(image_builder_version=BUILDER)
        return api_pb2.ImageFromIdResponse(image_id=request.image_id, metadata=metadata)

    async def MountBatchedCheckExistence(self, request):
        missing = [digest for digest in request.sha256_hex_hashes if digest not in self._files]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    async def MountPutFile(self, request):
        if request.data or request.sha256_hex == hashlib.sha256(b"").hexdigest():
            self._files[request.sha256_hex] = request.data
        return api_pb2.MountPutFileResponse(exists=request.sha256_hex in self._files)

    async def MountGetOrCreate(self, request):
        mount_id = "mo-" + hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()[:22]
        self._mounts[mount_id] = list(request.files)
        return api_pb2.MountGetOrCreateResponse(
            mount_id=mount_id, handle_metadata=api_pb2.MountHandleMetadata(content_checksum_sha256_hex=mount_id)
        )

    def chain(self, image_id):
        """The image and all that it is built on, the deepest first."""
        image = self.images[image_id]
        below = [layer for base in image.base_images for layer in self.chain(base.image_id)]
        return [*below, image]

    def env_of(self, image_id):
        lines = [line for image in self.chain(image_id) for line in image.dockerfile_commands]
        return dict(
            word.split("=", 1)
            for line in lines
            if line.startswith("ENV ")
            for word in shlex.split(line)[1:]
            if "=" in word
        )

    def files_of(self, image_id, mount_ids):
        """``(path, bytes, mode)`` of what COPY brought into the image, and of what is mounted at start."""
        for image in self.chain(image_id):
            if image.context_mount_id:
                target = next(line.split()[-1] for line in image.dockerfile_commands if line.startswith("COPY "))
                yield from self._of_mount(image.context_mount_id, target)
        for mount_id in mount_ids:
            yield from self._of_mount(mount_id, "/")

    def _of_mount(self, mount_id, target):
        for file in self._mounts[mount_id]:
            place = PurePosixPath("/", target, file.filename.lstrip("/"))
            yield str(place), self._files[file.sha256_hex], file.mode

    # sandboxes
    async def SandboxCreateV2(self, request):
        definition = request.definition
        if definition.timeout_secs > LONGEST_S:
            raise GRPCError(Status.INVALID_ARGUMENT, "timeout must be at most 24 hours")
        if definition.name and (self.named(definition.name) or definition.name in self._names):
            raise GRPCError(Status.ALREADY_EXISTS, f"Sandbox {definition.name!r} already exists")
        self._names.add(definition.name)  # starting takes a while
        try:
            sandbox = await self._make(request)
        finally:
            self._names.discard(definition.name)
        return api_pb2.SandboxCreateV2Response(
            sandbox_id=sandbox.id,
            task_id=sandbox.task_id,
            metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id),
            tunnels=_tunnels(sandbox),
            sandbox_token=f"st-{sandbox.id}",
        )

    async def _make(self, request):
        definition, emulator = request.definition, self._emulator
        if self._egress is None:
            self._egress = await _open_egress(emulator)
        mounts = []
        for mount in definition.volume_mounts:
            place = emulator.volumes.of(mount.volume_id).place / mount.sub_path.lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            mounts.append((place, mount.mount_path, mount.read_only))
        sandbox = Sandbox(
            request,
            emulator.root / "sandboxes",
            emulator.tls.issue_cert("127.0.0.1", "localhost"),
            image_env=self.env_of(definition.image_id),
            layers=self.files_of(definition.image_id, definition.mount_ids),
            mounts=mounts,
            egress=self._egress.path,
            reach=emulator.reach,
            lag=emulator.volume_lag,
        )
        await sandbox.start()
        self.sandboxes[sandbox.id] = sandbox
        return sandbox

    def named(self, name):
        return next((s for s in self.sandboxes.values() if s.name == name and s.result is None), None)

    def living(self):
        return [sandbox for sandbox in self.sandboxes.values() if sandbox.result is None]

    def of(self, sandbox_id):
        if sandbox_id not in self.sandboxes:
            raise GRPCError(Status.NOT_FOUND, f"Sandbox {sandbox_id!r} not found")
        return self.sandboxes[sandbox_id]

    async def SandboxWaitV2(self, request):
        sandbox = self.of(request.sandbox_id)
        if request.timeout:
            await _at_most(sandbox.ended, request.timeout)
        # One that is on its way out still runs: nothing of it may run when it is said to have ended.
        result = sandbox.result if sandbox.ended.is_set() else None
        return api_pb2.SandboxWaitResponse(result=result, metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id))

    async def SandboxGetFromNameV2(self, request):
        sandbox = self.named(request.sandbox_name)
        if sandbox is None or sandbox.app_id != f"ap-{request.app_name}":
            raise GRPCError(Status.NOT_FOUND, f"Sandbox {request.sandbox_name!r} not found")
        return api_pb2.SandboxGetFromNameResponse(
            sandbox_id=sandbox.id, metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id)
        )

    async def SandboxGetFromName(self, request):
        """Of the first version, of which there are none: the SDK asks for them when there is none of the second."""
        raise GRPCError(Status.NOT_FOUND, f"Sandbox {request.sandbox_name!r} not found")

    async def SandboxListV2(self, request):
        before = request.before_timestamp or float("inf")
        wanted = {(tag.tag_name, tag.tag_value) for tag in request.tags}
        found = sorted(self.living(), key=lambda s: s.created_at, reverse=True)
        page = [
            s for s in found if s.created_at < before and s.app_id == request.app_id and wanted <= set(s.tags.items())
        ]
        return api_pb2.SandboxListResponse(sandboxes=[_info(sandbox) for sandbox in page[:PAGE]])

    async def SandboxTagsGetV2(self, request):
        tags = self.of(request.sandbox_id).tags
        return api_pb2.SandboxTagsGetResponse(
            tags=[api_pb2.SandboxTag(tag_name=name, tag_value=value) for name, value in tags.items()]
        )

    async def SandboxTerminateV2(self, request):
        sandbox = self.of(request.sandbox_id)
        existing = sandbox.result
        await sandbox.terminate()
        return api_pb2.SandboxTerminateResponse(existing_result=existing)

    async def SandboxGetTunnelsV2(self, request):
        sandbox = self.of(request.sandbox_id)
        return api_pb2.SandboxGetTunnelsResponse(result=sandbox.result, tunnels=_tunnels(sandbox))

    async def SandboxGetTaskIdV2(self, request):
        sandbox = self.of(request.sandbox_id)
        return api_pb2.SandboxGetTaskIdResponse(task_id=sandbox.task_id, task_result=sandbox.result)

    async def SandboxGetCommandRouterAccess(self, request):
        if self.of(request.sandbox_id).result is not None:
            raise GRPCError(Status.FAILED_PRECONDITION, "Sandbox has already finished")
        return api_pb2.SandboxGetCommandRouterAccessResponse(url=self._emulator.url, jwt=JWT)

    async def close(self):
        await asyncio.gather(*(sandbox.close() for sandbox in self.sandboxes.values()))
        if self._egress is not None:
            self._egress.server.close()


def _tunnels(sandbox):
    return [
        api_pb2.TunnelData(host="127.0.0.1", port=outside, container_port=inside)
        for inside, outside in sandbox.tunnels.items()
    ]


def _info(sandbox):
    return api_pb2.SandboxInfo(
        id=sandbox.id,
        created_at=sandbox.created_at,
        app_id=sandbox.app_id,
        name=sandbox.name,
        metadata=api_pb2.SandboxHandleMetadata(app_id=sandbox.app_id),
    )


async def _at_most(event, timeout_s):
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass


async def _open_egress(emulator):
    """Where the relays of sandboxes reach this host."""
    path = emulator.root / "egress"

    async def serve(reader, writer):
        port = int.from_bytes(await reader.readexactly(2), "big")
        try:
            await _join((reader, writer), await asyncio.open_connection("127.0.0.1", port))
        except OSError:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    return SimpleNamespace(path=path, server=server)
