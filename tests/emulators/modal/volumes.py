"""Volumes, version 2: directories of this host, and the RPCs that work on them from outside."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from google.protobuf.empty_pb2 import Empty
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2

BLOCK_BYTES = 8 * 1024 * 1024


@dataclass
class Volume:
    id: str
    name: str
    place: Path
    created_at: float = field(default_factory=time.time)

    @property
    def metadata(self):
        about = api_pb2.CreationInfo(created_at=self.created_at)
        return api_pb2.VolumeMetadata(version=api_pb2.VOLUME_FS_VERSION_V2, name=self.name, creation_info=about)


class Volumes:
    """``by_name`` are those that there are."""

    def __init__(self, root: Path, blocks):
        self._root = root
        self._blocks = blocks
        self.by_name: dict[str, Volume] = {}

    def place(self, name: str) -> Path:
        return self.by_name[name].place

    def bring(self, name: str, relative: str, directory: Path) -> None:
        """What somebody has put on that volume before, by links where that can be."""

        def link(source, target):
            try:
                os.link(source, target)
            except OSError:
                shutil.copy2(source, target)

        volume = self.by_name.get(name) or self._make(name)
        shutil.copytree(directory, volume.place / relative, symlinks=True, copy_function=link)

    def of(self, volume_id: str) -> Volume:
        for volume in self.by_name.values():
            if volume.id == volume_id:
                return volume
        raise GRPCError(Status.NOT_FOUND, f"No Volume with ID {volume_id!r} found")

    async def VolumeGetOrCreate(self, request):
        volume = self.by_name.get(request.deployment_name)
        if volume is None:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise GRPCError(Status.NOT_FOUND, f"Volume {request.deployment_name!r} not found")
            if request.version != api_pb2.VOLUME_FS_VERSION_V2:
                raise GRPCError(Status.INVALID_ARGUMENT, "only volumes of version 2 are emulated")
            volume = self._make(request.deployment_name)
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=volume.id, version=api_pb2.VOLUME_FS_VERSION_V2, metadata=volume.metadata
        )

    def _make(self, name):
        identity = f"vo-{secrets.token_hex(11)}"
        volume = Volume(identity, name, self._root / identity)
        volume.place.mkdir(parents=True)
        self.by_name[name] = volume
        return volume

    async def VolumeList(self, request):
        before = request.pagination.created_before or float("inf")
        found = sorted(self.by_name.values(), key=lambda v: v.created_at, reverse=True)
        page = [v for v in found if v.created_at < before][: request.pagination.max_objects]
        items = [
            api_pb2.VolumeListItem(label=v.name, volume_id=v.id, created_at=v.created_at, metadata=v.metadata)
            for v in page
        ]
        return api_pb2.VolumeListResponse(items=items)

    async def VolumeDelete(self, request):
        volume = self.of(request.volume_id)
        del self.by_name[volume.name]
        shutil.rmtree(volume.place, ignore_errors=True)
        return Empty()

    async def VolumeListFiles2(self, request):
        volume = self.of(request.volume_id)
        top = _inside(volume, request.path)
        if not top.is_dir():
            entries = [_entry(volume, top)]
        elif request.recursive:
            entries = [_entry(volume, Path(root, n)) for root, ds, fs in os.walk(top) for n in sorted((*ds, *fs))]
        else:
            entries = [_entry(volume, path) for path in sorted(top.iterdir())]
        yield api_pb2.VolumeListFiles2Response(entries=entries)

    async def VolumeGetFile2(self, request):
        path = _inside(self.of(request.volume_id), request.path)
        if not path.is_file():
            raise GRPCError(Status.INVALID_ARGUMENT, "not a file")
        data = path.read_bytes()
        chunks = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
        urls = [self._blocks.give(chunk) for chunk in chunks]
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=len(data), start=0, len=len(data))

    async def VolumePutFiles2(self, request):
        volume = self.of(request.volume_id)
        missing = [
            api_pb2.VolumePutFiles2Response.MissingBlock(file_index=f, block_index=b, put_url=self._blocks.put_url)
            for f, file in enumerate(request.files)
            for b, block in enumerate(file.blocks)
            if block.contents_sha256 not in self._blocks.contents
        ]
        for file in () if missing else request.files:
            path = _place(volume, file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as whole:
                for number, block in enumerate(file.blocks):  # the zeros at the end of one are not sent
                    whole.seek(number * BLOCK_BYTES)
                    whole.write(self._blocks.contents[block.contents_sha256])
                whole.truncate(file.size)
            path.chmod(file.mode or 0o644)
        return api_pb2.VolumePutFiles2Response(missing_blocks=missing)

    async def VolumeRemoveFile2(self, request):
        path = _inside(self.of(request.volume_id), request.path)
        if path.is_dir() and not path.is_symlink():
            if not request.recursive:
                raise GRPCError(Status.INVALID_ARGUMENT, "it is a directory")
            shutil.rmtree(path)
        else:
            path.unlink()
        return Empty()


def _place(volume, path):
    relative = PurePosixPath(path.lstrip("/"))
    if ".." in relative.parts:
        raise GRPCError(Status.INVALID_ARGUMENT, "path leaves the volume")
    return volume.place / relative


def _inside(volume, path):
    place = _place(volume, path)
    if not os.path.lexists(place):
        raise GRPCError(Status.NOT_FOUND, f"No such file or directory: {path!r}")
    return place


def _entry(volume, path):
    kinds = api_pb2.FileEntry
    kind = kinds.SYMLINK if path.is_symlink() else kinds.DIRECTORY if path.is_dir() else kinds.FILE
    about = path.lstat()
    relative = str(path.relative_to(volume.place))
    return api_pb2.FileEntry(path=relative, type=kind, mtime=int(about.st_mtime), size=about.st_size)
