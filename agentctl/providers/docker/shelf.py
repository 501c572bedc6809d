"""Into a volume of a Docker engine without a sandbox: through containers that exist for a moment.

A sandbox never mounts a whole volume but single directories of it: each as an anonymous volume of the driver ``local``
that binds the directory (``part_of``). It goes when the container goes, and leaves the data. The engines' own subpath
mounts would do the same, but one before API 1.45 silently mounts the whole volume instead.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from agentctl.errors import NotFound, SandboxError
from agentctl.providers.docker import near
from agentctl.providers.docker.backend import ROLE
from agentctl.providers.docker.engine import Engine
from agentctl.providers.docker.images import Image
from agentctl.providers.finish import finished
from agentctl.providers.leftover import NEWEST
from agentctl.providers.trees import unpack_plain

Json = dict[str, Any]
AGENT_USER = 1000
PLACE = "/volume"
_COPY_BYTES = 1024 * 1024
_DELETE_S = 600
_DELETE = """
import os, shutil, sys
if os.path.islink(sys.argv[1]):
    os.unlink(sys.argv[1])
elif os.path.lexists(sys.argv[1]):
    shutil.rmtree(sys.argv[1])
top = os.listdir(sys.argv[2])
sys.exit(3 if not top or top == ["agents"] and not os.listdir(sys.argv[2] + "/agents") else 0)
"""
_EMPTY = 3
"""How that tells that nothing is left in the volume."""


class Directory(NamedTuple):
    """A directory to be made in a volume, with what is missing above it (the agent's)."""

    path: str
    mode: int
    owner: int


TOP = Directory(".", 0o755, AGENT_USER)


async def is_there(engine: Engine, volume: str) -> bool:
    return await mountpoint_of(engine, volume) is not None


async def mountpoint_of(engine: Engine, volume: str) -> str | None:
    """Where the engine has it; None when it is gone."""
    try:
        about = await engine.call(f"find the volume {volume}", lambda api: api.inspect_volume(volume))
    except NotFound:
        return None
    return str(about["Mountpoint"])


def part_of(mountpoint: str, relative: str, target: str, labels: dict[str, str]) -> Any:
    """The mount of one directory of a volume. What the image has at ``target`` is not copied into it."""
    from docker.types import DriverConfig, Mount

    device = {"type": "none", "o": "bind", "device": f"{mountpoint}/{relative}"}
    return Mount(target, None, type="volume", labels=labels, no_copy=True, driver_config=DriverConfig("local", device))


async def make_directories(
    engine: Engine, volume: str, image: Image, wanted: Iterable[Directory], labels: dict[str, str], mountpoint: str
) -> str | None:
    """Make them where they are missing; owner and mode are put right in any case. Return the id of the container that
    was needed for it, which bears ``labels`` and is the caller's to remove; None where none was."""
    top = near.place(engine, mountpoint)
    if top is not None:
        await asyncio.to_thread(near.make_directories, top, wanted)
        return None
    archive = _archive(wanted)

    def make(api: Any) -> str:
        shelf = _make_shelf(api, volume, image, labels)
        api.put_archive(shelf, "/", archive)  # not to PLACE: engines leave the target itself as it is
        return shelf

    return await engine.call("make directories in a volume", make)


def _archive(wanted: Iterable[Directory]) -> bytes:
    entries: dict[str, tuple[int, int]] = {}
    for directory in wanted:
        path = PurePosixPath(PLACE.lstrip("/"), directory.path)
        for parent in reversed(path.parents[:-1]):
            entries.setdefault(str(parent), (0o755, AGENT_USER))
        entries[str(path)] = (directory.mode, directory.owner)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (mode, owner) in entries.items():
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, owner, owner
            tar.addfile(info)
    return buffer.getvalue()


@asynccontextmanager
async def reading(engine: Engine, volume: str, image: Image, relative: str) -> AsyncIterator[Path]:
    """A copy of the files in a directory of the volume; see ``Provider.volume_reading``."""
    with tempfile.TemporaryDirectory(prefix="agentctl-volume-") as scratch:
        copy = Path(scratch) / "copy"
        if not await is_there(engine, volume):  # it would be made
            yield copy
            return
        async with _shelf(engine, volume, image) as shelf:
            await engine.call("read from a volume", lambda api: _fetch(api, shelf, relative, copy))
        yield copy


def _fetch(api: Any, shelf: str, relative: str, target: Path) -> None:
    from docker import errors as sdk

    try:
        chunks, _ = api.get_archive(shelf, f"{PLACE}/{relative}", chunk_size=_COPY_BYTES)
    except sdk.NotFound:
        return
    with tempfile.TemporaryFile() as archive:
        for chunk in chunks:
            archive.write(chunk)
        archive.seek(0)
        unpack_plain(archive, target, without=1)  # the directory's own name


async def delete_tree(engine: Engine, volume: str, image: Image, relative: str) -> bool:
    """``near.delete_tree`` through a container."""
    command = ["-IS", "-c", _DELETE, f"{PLACE}/{relative}", PLACE]
    async with _shelf(engine, volume, image, command) as shelf:
        code, said = await engine.call("delete from a volume", lambda api: _run(api, shelf))
    if code not in (0, _EMPTY):
        raise SandboxError(f"{relative} could not be deleted from the volume: {said.strip()[-300:]}")
    return code == _EMPTY


async def written_at(engine: Engine, volume: str, image: Image) -> float:
    """``near.written_at`` through a container."""
    async with _shelf(engine, volume, image, ["-IS", "-c", NEWEST, PLACE]) as shelf:
        return float(await engine.call("look into a volume", lambda api: _printed(api, shelf)))


def _printed(api: Any, container: str) -> bytes:
    api.start(container)
    api.wait(container, timeout=_DELETE_S)
    said: bytes = api.logs(container, stderr=False)
    return said


def _run(api: Any, container: str) -> tuple[int, str]:
    api.start(container)
    code: int = api.wait(container, timeout=_DELETE_S)["StatusCode"]
    return code, "" if code == 0 else api.logs(container).decode(errors="replace")


@asynccontextmanager
async def _shelf(engine: Engine, volume: str, image: Image, command: Iterable[str] = ()) -> AsyncIterator[str]:
    """The id of a container as ``_make_shelf`` makes it, for as long as the block lasts."""
    made: list[str] = []
    try:
        await engine.call(
            "reach into a volume", lambda api: made.append(_make_shelf(api, volume, image, engine.marks, command))
        )
        yield made[0]
    finally:
        for shelf in made:
            await finished(put_away(engine, shelf))


async def put_away(engine: Engine, shelf: str | None) -> None:
    if shelf is None:
        return
    await engine.call("clear up", lambda api: api.remove_container(shelf, force=True, v=True))


def _make_shelf(api: Any, volume: str, image: Image, labels: dict[str, str], command: Iterable[str] = ()) -> str:
    """A container that has the whole volume at ``PLACE``, root's power over it and no network. It is not started:
    archives go in and out all the same."""
    from docker.types import Mount

    host = api.create_host_config(
        mounts=[Mount(PLACE, volume, type="volume", no_copy=True)],
        network_mode="none",
        cap_drop=["ALL"],
        cap_add=["DAC_OVERRIDE", "FOWNER"],
        security_opt=["no-new-privileges:true"],
    )
    labels = {**labels, ROLE: "shelf"}
    how: Json = {"entrypoint": [image.python], "command": list(command), "user": "0:0", "labels": labels}
    return str(api.create_container(image.id, host_config=host, **how)["Id"])
