"""A stage for the scenarios: an application, a session on one provider with one agent, and the plug to pull."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agentctl.ops import session_end
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from agentctl.providers.bootstrap import ensure_runtime
from tests.docker.support import clear, installation
from tests.model_server import ModelServer
from tests.model_server.agents_env import setup_for
from tests.real.installation import InstalledAgents
from tests.recovery.leftovers import leftovers
from tests.recovery.plugs import PLUGS, Plug
from tests.recovery.stage import Said, Stage
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


class House:
    """A state directory with one session, in which one scenario after the other is played: each begins with what the
    one before left, be it a living sandbox or none. ``environment`` is what its commands get."""

    def __init__(self, request: pytest.FixtureRequest, cast: tuple[str, str], root: Path, runtime: Path) -> None:
        self.provider, self.agent = cast
        self.paths = StatePaths(root / "state").ensure()
        self.paths.runtime.symlink_to(runtime)
        self.cwd = root / "project"
        self.cwd.mkdir()
        self.environment = {"AGENTCTL_STATE_DIR": str(self.paths.root)}
        self.said = Said()
        self.sandbox_ids: list[str] = []
        self.talk: Talk = MockTalk()
        self._left = ExitStack()
        self._emulator: Any = None
        if self.provider == "docker":
            self.environment["DOCKER_HOST"] = request.getfixturevalue("docker_engine").host
            self._left.callback(clear, request.getfixturevalue("docker_api"), installation(self.paths))
        if self.provider == "daytona":
            self._emulator = request.getfixturevalue("daytona_emulator")
            account = self._emulator.account()
            self.environment |= {"DAYTONA_API_URL": self._emulator.url, "DAYTONA_API_KEY": account}
        if self.provider == "modal":
            self._emulator = request.getfixturevalue("modal_emulator")
            self.environment |= self._emulator.environment()
        if self.agent != "mock":
            request.getfixturevalue("installed_agents").link_into(self.paths.root, self.agent)
            model = self._left.enter_context(ModelServer(host=_host(request, self.provider)))
            self.environment |= setup_for(self.agent, model.url).environment
            self.talk = ClaudeTalk(model)

    def furnish(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("DAYTONA_SNAPSHOT", raising=False)

    def is_in_order(self) -> None:
        """The emulators have heard nothing that they have no answer to."""
        if self.provider == "daytona":
            assert self._emulator.is_clean() == []
        if self.provider == "modal":
            assert self._emulator.unimplemented == []

    def end(self) -> None:
        """Nothing of it may be left when its sessions are deleted."""
        with self._left, pytest.MonkeyPatch.context() as monkeypatch:
            self.furnish(monkeypatch)
            asyncio.run(self._delete_sessions())
            assert leftovers(self.paths, self.sandbox_ids) == []
            self.is_in_order()
            if self.provider == "daytona":
                living = self._emulator.sandboxes(self.environment["DAYTONA_API_KEY"])
                assert [(one.name, one.state) for one in living] == []
            if self.provider == "modal":
                assert [one.name for one in self._emulator.control.living()] == []

    async def _delete_sessions(self) -> None:
        with App.open() as app:
            for session in app.store.sessions(limit=None):
                await session_end.delete(app, session.id)


def _host(request: pytest.FixtureRequest, provider: str) -> str:
    """Where sandboxes of the provider see this host."""
    if provider != "docker":
        return "127.0.0.1"
    [config] = request.getfixturevalue("docker_api").inspect_network("bridge")["IPAM"]["Config"]
    return str(config["Gateway"])


@pytest.fixture(scope="module")
def houses() -> Iterator[dict[tuple[str, str], House]]:
    """Provider and agent → the house in which the scenarios of this module are played."""
    houses: dict[tuple[str, str], House] = {}
    with ExitStack() as stack:
        yield houses
        for house in houses.values():
            stack.callback(house.end)


@pytest.fixture
def house(
    request: pytest.FixtureRequest,
    cast: tuple[str, str],
    houses: dict[tuple[str, str], House],
    shared_runtime: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[House]:
    """The one of its cast. A scenario that fails, or that has to be ``alone``, is the last of its house."""
    alone = getattr(request.function, "alone", False)
    if alone and cast in houses:
        houses.pop(cast).end()
    if cast not in houses:
        houses[cast] = House(request, cast, tmp_path_factory.mktemp("-".join(cast)), shared_runtime)
    house = houses[cast]
    house.furnish(monkeypatch)
    failed_before = request.session.testsfailed
    yield house
    if alone or request.session.testsfailed > failed_before:
        houses.pop(cast).end()


@pytest.fixture
async def stage(house: House) -> AsyncIterator[Stage]:
    """One session, which may have played other scenarios before."""
    with App.open() as app:
        stage = await Stage.create(app, PLUGS[house.provider](app), house.talk, house.cwd, house.said)
        yield stage
        await stage.close()
    house.sandbox_ids += stage.sandbox_ids
    house.is_in_order()
