"""A stage for the scenarios: an application, a session on one provider with one agent, and the plug to pull."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentctl.ops import session_end
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from agentctl.providers.bootstrap import ensure_runtime
from tests.model_server import ModelServer
from tests.model_server.agents_env import setup_for
from tests.real.installation import InstalledAgents
from tests.recovery.leftovers import leftovers
from tests.recovery.plugs import PLUGS, Plug
from tests.recovery.stage import Stage
from tests.recovery.talk import ClaudeTalk, MockTalk, Talk


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scenario on every provider that it is for; those in which the context matters with real agents too."""
    if "stage" not in metafunc.fixturenames:
        return
    scenario = metafunc.function.__name__
    real = getattr(metafunc.function, "context_matters", False)
    providers = getattr(metafunc.module, "PROVIDERS", PLUGS)
    cast = [
        pytest.param((provider, agent), id=f"{provider}-{agent}", marks=_marks(agent))
        for provider, plug in PLUGS.items()
        if provider in providers and scenario not in plug.not_for and _is_played(metafunc, plug)
        for agent in ("mock", *(plug.agents if real and scenario in getattr(plug, "agents_in", [scenario]) else ()))
    ]
    metafunc.parametrize("cast", cast)


def _is_played(metafunc: pytest.Metafunc, plug: type[Plug]) -> bool:
    """Time is scarce: on a cloud's emulator those are played every day that say most of it."""
    everyday = plug.everyday is None or re.match(plug.everyday, metafunc.function.__name__)
    return bool(everyday) or bool(metafunc.config.getoption("--every-scenario"))


def _marks(agent: str) -> tuple[pytest.MarkDecorator, ...]:
    return (pytest.mark.real, pytest.mark.slow) if agent != "mock" else ()


@pytest.fixture(scope="session")
def shared_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked supervisor, made once for all tests rather than once for each state directory."""
    paths = StatePaths(tmp_path_factory.mktemp("shared")).ensure()
    ensure_runtime(paths)
    return paths.runtime


@pytest.fixture
def paths(shared_runtime: Path) -> StatePaths:
    paths = StatePaths(Path(os.environ["AGENTCTL_STATE_DIR"])).ensure()
    paths.runtime.symlink_to(shared_runtime)
    return paths


@pytest.fixture(scope="session")
def installed_agents() -> InstalledAgents:
    return InstalledAgents()


@pytest.fixture
def talk(
    cast: tuple[str, str], request: pytest.FixtureRequest, paths: StatePaths, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Talk]:
    provider, agent = cast
    if agent == "mock":
        yield MockTalk()
        return
    installed: InstalledAgents = request.getfixturevalue("installed_agents")
    installed.link_into(paths.root, agent)
    with ModelServer(host=_host(request, provider)) as model:
        for name, value in setup_for(agent, model.url).environment.items():
            monkeypatch.setenv(name, value)
        yield ClaudeTalk(model)


def _host(request: pytest.FixtureRequest, provider: str) -> str:
    """Where sandboxes of the provider see this host."""
    if provider != "docker":
        return "127.0.0.1"
    [config] = request.getfixturevalue("docker_api").inspect_network("bridge")["IPAM"]["Config"]
    return str(config["Gateway"])


@pytest.fixture
def docker_home(
    paths: StatePaths, docker_engine: Any, docker_api: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Sessions of this state directory have their containers in the tests' engine, and leave nothing in it."""
    from tests.docker.support import clear, installation

    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    yield
    clear(docker_api, installation(paths))


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, cast: tuple[str, str], talk: Talk, paths: StatePaths, tmp_path: Path
) -> AsyncIterator[Stage]:
    """One session, not started yet. Nothing of it may be left when the test has deleted it, or we have."""
    provider, _ = cast
    if provider == "docker":
        request.getfixturevalue("docker_home")
    if provider in ("daytona", "modal"):
        request.getfixturevalue(provider)
    cwd = tmp_path / "project"
    cwd.mkdir()
    with App.open() as app:
        stage = await Stage.create(app, PLUGS[provider](app), talk, cwd)
        yield stage
        await stage.close()
        for session in app.store.sessions(limit=None):
            await session_end.delete(app, session.id)
    assert leftovers(paths, stage.sandbox_ids) == []
