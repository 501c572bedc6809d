"""Real agents on a scripted model: the agents are installed once, the model server is new for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model_server import ModelServer
from tests.real.installation import InstalledAgents


@pytest.fixture(scope="session")
def installed_agents() -> InstalledAgents:
    return InstalledAgents()


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server
