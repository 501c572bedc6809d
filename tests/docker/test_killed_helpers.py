"""Containers that are made for a moment, and whose maker was killed in that moment: ``cleanup-orphans`` finds them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agentctl.paths import StatePaths
from tests.cli.running import agentctl
from tests.docker.support import clear, installation

DIES = """
import asyncio, os, signal, sys
from dataclasses import replace
from pathlib import Path
import docker
from agentctl.paths import StatePaths
from agentctl.providers.docker import images, runtime, shelf
from agentctl.providers.docker.backend import Backend

root, image, volume = sys.argv[1:]
create = docker.APIClient.create_container

def create_and_die(api, *args, **how):
    create(api, *args, **how)
    os.kill(os.getpid(), signal.SIGKILL)

async def looked(backend):
    return await images.look(backend.engine(), backend.paths, image)

async def read(backend):
    async with shelf.reading(backend.engine(), volume, known, "."):
        pass

def compiled(backend):
    runtime.runtime_for(backend.paths, backend.engine(), replace(known, cache_tag="cpython-999"))

known = asyncio.run(looked(Backend(StatePaths(Path(root, "whole")))))
docker.APIClient.create_container = create_and_die
for work in (lambda b: asyncio.run(looked(b)), compiled, lambda b: asyncio.run(read(b))):
    child = os.fork()
    if child == 0:
        work(Backend(StatePaths(Path(root))))
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""
"""Each is killed as soon as the engine has made its container."""


@pytest.fixture
def killed_at(docker_api, tmp_path, monkeypatch):
    """The state directory of the commands that are killed."""
    paths = StatePaths(tmp_path / "killed").ensure()
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(paths.root))
    yield paths
    clear(docker_api, installation(paths))


async def test_what_a_killed_command_left_is_found_and_removed(provider, killed_at, docker_image):
    volume = await provider.volume_create("default")
    argv = [sys.executable, "-c", DIES, str(killed_at.root), docker_image, volume.handle["volume"]]
    subprocess.run(argv, check=True)
    sweep = ("cleanup-orphans", "--provider", "docker", "--older-than", "0.001s", "--json")
    shown = agentctl(*sweep)
    assert [(one["kind"], one["action"]) for one in shown.data["orphans"]] == [("helper", "would_delete")] * 3, shown
    gone = agentctl(*sweep, "--yes")
    assert [one["action"] for one in gone.data["orphans"]] == ["deleted"] * 3, gone
    assert agentctl(*sweep).data["orphans"] == []
