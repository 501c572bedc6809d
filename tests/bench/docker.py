"""Docker sandboxes against bare containers of the same image, and files against ``docker cp``, in the same run.

An engine's own speed is most of every figure: the ratios say more than the times.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import docker

from agentctl import ids
from agentctl.model import Volume
from agentctl.paths import StatePaths
from agentctl.providers.base import Provider, SandboxSpec
from agentctl.providers.lookup import open_provider
from agentctl.supervisor.files.space import FileSpace
from agentctl.supervisor.files.tree import Files
from agentctl.supervisor_client import SupervisorClient
from agentctl.supervisor_client.files import FilesClient
from agentctl.supervisor_client.processes import Processes
from agentctl.wire import Boot
from tests.bench import proc
from tests.bench.report import Row, compared
from tests.bench.samples import figure, interleave
from tests.bench.workshop import Workshop
from tests.docker import images
from tests.docker.engine import shared_engine
from tests.docker.support import clear, installation

READY_MS, READY_RATIO = 350.0, 2.1
FIFTY, FIFTY_S, FIFTY_AT_ONCE = 50, 15.0, 4
EACH_MB = 45.0
SIZE, FILE_RUNS = 1_000_000_000, 3
FILES_MS = SIZE / 200_000
"""At 200 MB/s."""

EXEC_MS = 60.0


def rows(shop: Workshop) -> Iterator[Row]:
    try:
        with shared_engine() as engine:
            yield from _rows(shop, engine)
    except LookupError as why:
        print(f"docker is not measured: {why}", file=sys.stderr)


def _rows(shop: Workshop, engine: Any) -> Iterator[Row]:
    os.environ["DOCKER_HOST"] = engine.host
    api = engine.api()
    image = images.tiny(api)
    paths = StatePaths(shop.directory / "docker").ensure()
    with asyncio.Runner() as runner:
        try:
            provider = open_provider("docker", paths)
            volume = runner.run(provider.volume_create("default"))
            made = _Maker(provider, volume, image)
            yield from _ready(runner, made, api, image, shop.runs)
            yield from _many(runner, made, api, image)
            yield from _inside(runner, made, api, shop)
        finally:
            clear(api, installation(paths))
            api.close()


class _Maker:
    def __init__(self, provider: Provider, volume: Volume, image: str) -> None:
        self.provider = provider
        self._volume = volume
        self._image = image

    async def create(self) -> Any:
        """Another session's sandbox each time."""
        sandbox_id = ids.new_id("sbx")
        boot = Boot(sandbox_id=sandbox_id, token=ids.new_id("tok"), listen={}, log_root="", home="", tmp="")
        spec = SandboxSpec(
            sandbox_id=sandbox_id,
            session_id=sandbox_id,
            volume=self._volume,
            home=f"agents/{sandbox_id}/home",
            log=f"agents/{sandbox_id}/log",
            boot=boot,
            image=self._image,
        )
        return await self.provider.create(spec)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[tuple[Any, SupervisorClient]]:
        handle = await self.create()
        try:
            endpoint, token = await self.provider.endpoint(handle)
            async with SupervisorClient(endpoint, token) as client:
                yield handle, client
        finally:
            await self.provider.remove(handle, at_once=True)


def _ready(runner: asyncio.Runner, made: _Maker, api: docker.APIClient, image: str, runs: int) -> Iterator[Row]:
    def ours() -> float:
        started = time.perf_counter()
        handle = runner.run(made.create())
        spent = _ms_since(started)
        runner.run(made.provider.remove(handle, at_once=True))
        return spent

    async def answered() -> float:
        """A supervisor that listens imports the rest before it answers."""
        started = time.perf_counter()
        async with made.client() as (_, client):
            await client.health()
            return _ms_since(started)

    def bare() -> float:
        """Create and start, as ``docker run`` does; nothing in it says that it is ready."""
        started = time.perf_counter()
        container = api.create_container(image, ["sleep", "60"], host_config=api.create_host_config(init=True))["Id"]
        api.start(container)
        spent = _ms_since(started)
        api.remove_container(container, force=True)
        return spent

    *series, answers = interleave([ours, bare, lambda: runner.run(answered())], runs)
    yield compared("docker: create to ready", *series, peer_name="bare container", goal=READY_MS)
    yield compared("docker: create to ready, by ratio", *series, peer_name="bare container", times_peer=READY_RATIO)
    yield compared("docker: create to the first answer", answers, series[1], peer_name="bare container")


def _many(runner: asyncio.Runner, made: _Maker, api: docker.APIClient, image: str) -> Iterator[Row]:
    bare_s = _bare_many_s(api, image)
    handles: list[Any] = []

    async def make() -> None:
        turns = asyncio.Semaphore(FIFTY_AT_ONCE)

        async def one() -> None:
            async with turns:
                handles.append(await made.create())

        async with asyncio.TaskGroup() as tasks:
            for _ in range(FIFTY):
                tasks.create_task(one())

    try:
        started = time.perf_counter()
        runner.run(make())
        spent_s = time.perf_counter() - started
        each_mb = sum(_pss_mb(handle["container"]) for handle in handles) / FIFTY
    finally:
        for handle in handles:
            runner.run(made.provider.remove(handle, at_once=True))
    yield compared(
        f"docker: {FIFTY} sandboxes", [spent_s], [bare_s], unit="s", peer_name="bare containers", goal=FIFTY_S
    )
    yield Row(name="docker: memory of a sandbox without its agent", unit="MB", ours=figure([each_mb]), goal=EACH_MB)


def _bare_many_s(api: docker.APIClient, image: str) -> float:
    made: list[str] = []

    def one(_: int) -> None:
        container = api.create_container(image, ["sleep", "600"], host_config=api.create_host_config(init=True))["Id"]
        made.append(container)
        api.start(container)

    started = time.perf_counter()
    try:
        with ThreadPoolExecutor(FIFTY_AT_ONCE) as pool:
            list(pool.map(one, range(FIFTY)))
        return time.perf_counter() - started
    finally:
        for container in made:
            api.remove_container(container, force=True)


def _pss_mb(container: str) -> float:
    """Of the container's processes and of the engine's process that watches over it."""
    return sum(map(proc.pss_mb, proc.running(container, parts=("cgroup", "cmdline"))))


def _inside(runner: asyncio.Runner, made: _Maker, api: docker.APIClient, shop: Workshop) -> Iterator[Row]:
    """With one sandbox: commands, and a large file in and out."""
    opened = made.client()
    handle, client = runner.run(opened.__aenter__())
    try:
        contestants = [lambda: runner.run(_exec_ms(client)), lambda: _bare_exec_ms(api, handle["container"])]
        series = interleave(contestants, shop.runs)
        yield compared("docker: exec of true", *series, peer_name="docker exec", goal=EXEC_MS)
        yield from _files(runner, client, handle["container"], shop)
    finally:
        runner.run(opened.__aexit__(None, None, None))


async def _exec_ms(client: SupervisorClient) -> float:
    started = time.perf_counter()
    await Processes(client).run({"command": "true"})
    return _ms_since(started)


def _bare_exec_ms(api: docker.APIClient, container: str) -> float:
    started = time.perf_counter()
    api.exec_start(api.exec_create(container, ["true"])["Id"])
    return _ms_since(started)


def _files(runner: asyncio.Runner, client: SupervisorClient, container: str, shop: Workshop) -> Iterator[Row]:
    place = shop.directory / "files-docker"
    place.mkdir()
    (place / "source").write_bytes(os.urandom(1_000_000) * (SIZE // 1_000_000))
    host, inside = Files(FileSpace(str(place))), FilesClient(client, "/home/agent")
    contestants: list[Callable[[], float]] = [
        lambda: runner.run(_copied_ms(host, "source", inside, "file")),
        lambda: runner.run(_copied_ms(inside, "file", host, "copy")),
        lambda: _cp_ms(str(place / "source"), f"{container}:/home/agent/file"),
        lambda: _cp_ms(f"{container}:/home/agent/file", str(place / "copy")),
    ]
    put, pull, cp_in, cp_out = ([contestant() for _ in range(FILE_RUNS)] for contestant in contestants)
    shutil.rmtree(place)
    yield compared("docker: put 1 GB", put, cp_in, peer_name="docker cp", goal=FILES_MS)
    yield compared("docker: pull 1 GB", pull, cp_out, peer_name="docker cp", goal=FILES_MS)


async def _copied_ms(source: Any, name: str, target: Any, to: str) -> float:
    started = time.perf_counter()
    async with source.read(name) as reading:
        await target.write(to, reading.chunks, size=reading.size)
    return _ms_since(started)


def _cp_ms(source: str, target: str) -> float:
    started = time.perf_counter()
    subprocess.run(["docker", "cp", "-q", source, target], check=True, stdout=subprocess.DEVNULL)
    return _ms_since(started)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
