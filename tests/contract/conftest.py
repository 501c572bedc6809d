"""Providers and their sandboxes, made for a test and gone after it."""

import json
import secrets
from pathlib import Path

import pytest

from agentctl import ids
from agentctl.paths import StatePaths
from agentctl.providers.base import SandboxSpec
from agentctl.providers.bootstrap import ensure_runtime
from agentctl.providers.lookup import open_provider
from agentctl.wire import TOKEN_HEADER, Boot
from tests.docker.support import LocalFiles, VolumeFiles, clear, installation


@pytest.fixture(scope="session")
def runtime_root(tmp_path_factory):
    """One runtime for all tests of this directory: making one takes 0.4 s."""
    paths = StatePaths(tmp_path_factory.mktemp("shared")).ensure()
    ensure_runtime(paths)
    return paths.runtime


@pytest.fixture
def paths(tmp_path, runtime_root):
    paths = StatePaths(tmp_path / "s").ensure()
    paths.runtime.symlink_to(runtime_root)
    return paths


@pytest.fixture(scope="session")
def known_images(tmp_path_factory):
    """What providers learn of images, for all tests: looking into one takes a third of a second."""
    return tmp_path_factory.mktemp("images")


@pytest.fixture
def docker_provider(request, paths, docker_engine, docker_api, known_images, monkeypatch):
    """Nothing of its installation is left in the engine afterwards."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    paths.docker.mkdir()
    (paths.docker / "images").symlink_to(known_images)
    yield open_provider("docker", paths)
    clear(docker_api, installation(paths))


@pytest.fixture
async def modal_provider(paths, modal):
    provider = open_provider("modal", paths)
    yield provider
    await provider.sdk.close()


@pytest.fixture
def daytona_provider(paths, daytona):
    return open_provider("daytona", paths)


@pytest.fixture(params=["unix_local", "docker", "modal", "daytona"])
def provider(request, paths):
    if request.param in ("docker", "modal", "daytona"):
        return request.getfixturevalue(f"{request.param}_provider")
    return open_provider(request.param, paths)


@pytest.fixture
def files(request, provider):
    """The files of the provider's volumes, behind its back."""
    if provider.name == "docker":
        return VolumeFiles(request.getfixturevalue("docker_api"), request.getfixturevalue("docker_image"))
    if provider.name == "modal":
        return ModalFiles(request.getfixturevalue("modal"))
    if provider.name == "daytona":
        return DaytonaFiles(request.getfixturevalue("daytona"))
    return LocalFiles(provider)


class DaytonaFiles:
    """The files of volumes as the emulator has them: HOME and log as they are kept."""

    def __init__(self, emulator):
        self._emulator = emulator

    def write(self, volume, relative, text):
        path = self._path(volume, relative)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, volume, relative):
        path = self._path(volume, relative)
        return path.read_text() if path.exists() else None

    def _path(self, volume, relative):
        return self._emulator.volume_path(volume.handle["volume"]) / relative


class ModalFiles:
    """The files of volumes as the emulator has them. A log is there as it is kept."""

    def __init__(self, emulator):
        self._volumes = emulator.volumes

    def write(self, volume, relative, text):
        path = self._path(volume, relative)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, volume, relative):
        path = self._path(volume, relative)
        return path.read_text() if path.exists() else None

    def _path(self, volume, relative):
        kind = "logs" if "/log/" in relative else "homes"
        return self._volumes.place(volume.handle[kind]) / relative


def boot_of(sandbox_id, **fields):
    values = {"token": secrets.token_urlsafe(), "listen": {}, "log_root": "", "home": "", "tmp": "", **fields}
    return Boot(sandbox_id=sandbox_id, **values)


@pytest.fixture
async def spec_of(request, provider):
    """Make a SandboxSpec on a volume of its own."""
    images = {"docker": lambda: request.getfixturevalue("docker_image"), "modal": lambda: "python:3.12"}
    image = images.get(provider.name, lambda: None)()
    volume = await provider.volume_create("default")

    def make(*, labels=None, **boot):
        sandbox_id = boot.pop("sandbox_id", None) or ids.new_id("sbx")
        return SandboxSpec(
            sandbox_id=sandbox_id,
            session_id="ses_1",
            volume=volume,
            home="agents/ses_1/home",
            log="agents/ses_1/log",
            boot=boot_of(sandbox_id, **boot),
            labels=labels or {},
            image=image,
        )

    return make


@pytest.fixture
async def create(provider, spec_of):
    """Create a sandbox; all of them are removed after the test."""
    handles = []

    async def make(spec=None, **fields):
        handle = await provider.create(spec or spec_of(**fields))
        handles.append(handle)
        return handle

    yield make
    for handle in handles:
        await provider.remove(handle)
        assert not Path(handle.get("cgroup") or "/nowhere").exists()


async def ask_health(endpoint, token):
    """``GET /v1/health`` as (status, JSON body)."""
    reader, writer = await endpoint.dial()
    head = {"Host": "supervisor", TOKEN_HEADER: token, "Connection": "close", **endpoint.headers}
    lines = ["GET /v1/health HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    writer.write("\r\n".join(lines).encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    top, _, body = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(body)
