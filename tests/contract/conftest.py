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
from tests.docker.support import PlainFiles, VolumeFiles, clear, installation


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
    if provider.name == "unix_local":
        return PlainFiles(provider.volume_path)
    emulator = request.getfixturevalue(provider.name)
    return PlainFiles({"modal": at_modal, "daytona": at_daytona}[provider.name](emulator))


def at_daytona(emulator):
    """Where the emulator has a volume's files: HOME and log as they are kept."""
    return lambda volume, relative: emulator.volume_path(volume.handle["volume"]) / relative


def at_modal(emulator):
    """The same; a log is in a volume of its own."""
    return lambda volume, relative: emulator.volumes.place(volume.handle[volume_kind(relative)]) / relative


def volume_kind(relative):
    return "logs" if "/log/" in relative else "homes"


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
