"""Real agents on a scripted model: the agents are installed once, the model server is new for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_server import ModelServer
from tests.model_server.agents_env import setup_for
from tests.real.command_line import CommandLine
from tests.real.installation import InstalledAgents


@pytest.fixture(scope="session")
def installed_agents() -> InstalledAgents:
    return InstalledAgents()


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture(params=["claude", "codex", "opencode"])
def agent(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def agentctl(
    agent: str, installed_agents: InstalledAgents, model_server: ModelServer, tmp_path: Path, project: Path
) -> Iterator[CommandLine]:
    """A fresh state directory in which the agent is installed, and the user's variables for the scripted model."""
    state, home = tmp_path / "state", tmp_path / "home"
    installed_agents.link_into(state, agent)
    home.mkdir()
    base = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb"}
    environment = base | setup_for(agent, model_server.url).environment | {"AGENTCTL_STATE_DIR": str(state)}
    command_line = CommandLine(environment, project)
    yield command_line
    command_line.close()
