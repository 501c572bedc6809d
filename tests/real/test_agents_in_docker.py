"""Real agents in hardened containers, on a scripted model: what issue 'Docker sandboxes' calls done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentctl.paths import StatePaths
from tests.docker.support import clear, everything_of, installation
from tests.model_server import ModelServer
from tests.model_server.agents_env import setup_for
from tests.real.command_line import CommandLine
from tests.real.installation import InstalledAgents

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def model_server(docker_api: Any) -> Iterator[ModelServer]:
    """At the end of the engine's bridge, where containers see this host."""
    [config] = docker_api.inspect_network("bridge")["IPAM"]["Config"]
    with ModelServer(host=config["Gateway"]) as server:
        yield server


@pytest.fixture(params=["claude", "codex", "opencode"])
def agent(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def agentctl(
    agent: str,
    installed_agents: InstalledAgents,
    model_server: ModelServer,
    tmp_path: Path,
    docker_engine: Any,
    docker_api: Any,
    docker_image: str,
) -> Iterator[CommandLine]:
    state, home = tmp_path / "state", tmp_path / "home"
    installed_agents.link_into(state, agent)
    home.mkdir()
    base = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb"}
    own = {"AGENTCTL_STATE_DIR": str(state), "AGENTCTL_IMAGE": docker_image, "DOCKER_HOST": docker_engine.host}
    command_line = CommandLine(base | setup_for(agent, model_server.url).environment | own, tmp_path)
    yield command_line
    command_line.close()
    clear(docker_api, installation(StatePaths(state)))


def test_an_agent_with_all_permissions_works_in_a_container_of_which_nothing_is_left(
    agentctl: CommandLine, agent: str, project: Path, docker_api: Any, tmp_path: Path
) -> None:
    project.chmod(0o777)  # the container's user is not ours
    message = "[[shell:id -u > who.txt && cat who.txt]] [[write:/project/new.txt|out]] [[say:done]]"
    options = ("--provider", "docker", "--agent", agent, "--permissions", "allow")
    place = ("--mount", f"{project}:/project:rw", "--cwd", "/project")
    done = agentctl.run("run", *options, *place, message)
    assert done.code == 0, (done.lines[-3:], done.stderr)
    assert done.result["text"].endswith("done")
    assert (project / "who.txt").read_text() == "1000\n"
    assert (project / "new.txt").read_text().strip() == "out"
    assert everything_of(docker_api, installation(StatePaths(tmp_path / "state"))) == ([], [])
