"""What every test gets: a clean environment and a state directory of its own."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser):
    parser.addoption("--chaos-seed", type=int, default=None, help="repeat a run of the chaos test (default: random)")
    parser.addoption("--require", action="append", default=[], help="fail, do not skip, without it: docker")
    parser.addoption("--every-scenario", action="store_true", help="play all recovery scenarios on emulated clouds too")
    parser.addoption(
        "--live", action="append", default=[], help="test on the real thing too, with its key: daytona, modal"
    )
    parser.addoption("--chaos-turns", type=int, default=200, help="how many turns the chaos test plays")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No AGENTCTL_* and no credential of the developer reaches a test; the state directory is fresh."""
    for name in list(os.environ):
        if name.startswith("AGENTCTL_") or name.endswith(("_API_KEY", "_AUTH_TOKEN", "_OAUTH_TOKEN")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(tmp_path / "state"))
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def postgres():
    """A real Postgres server, one for all tests of this process."""
    from tests.postgres import PostgresServer

    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def docker_engine(request):
    """A real Docker engine, shared by all who test on this machine."""
    from tests.docker.engine import shared_engine

    try:
        with shared_engine() as engine:
            yield engine
    except LookupError as why:
        if "docker" in request.config.getoption("--require"):
            pytest.fail(f"--require docker: {why}")
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def docker_api(docker_engine):
    """The SDK's client, to see and to do things behind the provider's back."""
    api = docker_engine.api()
    yield api
    api.close()


@pytest.fixture(scope="session")
def docker_image(docker_api):
    """A tiny image with Python."""
    from tests.docker import images

    return images.tiny(docker_api)


def _emulated(kind, directory):
    from tests.emulators import stand_in

    if why := stand_in.available():
        pytest.skip(f"no stand-ins for a cloud's machines here: {why}")
    with kind(directory) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def daytona_emulator(tmp_path_factory):
    """Daytona on this machine, for all tests of this process; each has an account of its own in it."""
    from tests.emulators.daytona import DaytonaEmulator

    yield from _emulated(DaytonaEmulator, tmp_path_factory.mktemp("daytona"))


@pytest.fixture
def daytona(daytona_emulator, monkeypatch):
    """The emulator, with an account of its own that the environment names; nothing may be left in it, and nothing said
    that the SDK's contract does not have."""
    key = daytona_emulator.account()
    monkeypatch.setenv("DAYTONA_API_URL", daytona_emulator.url)
    monkeypatch.setenv("DAYTONA_API_KEY", key)
    monkeypatch.delenv("DAYTONA_SNAPSHOT", raising=False)
    yield daytona_emulator
    daytona_emulator.reset()
    assert daytona_emulator.is_clean() == []
    assert [(s.name, s.state) for s in daytona_emulator.sandboxes(key)] == []


@pytest.fixture(scope="session")
def modal_emulator(tmp_path_factory):
    """Modal on this machine, for all tests of this process."""
    from tests.emulators.modal import ModalEmulator

    yield from _emulated(ModalEmulator, tmp_path_factory.mktemp("modal"))


@pytest.fixture
def modal(modal_emulator, monkeypatch):
    """The emulator, which the environment names; nothing may be left alive in it, and nothing asked that it has no
    answer to."""
    for name, value in modal_emulator.environment().items():
        monkeypatch.setenv(name, value)
    yield modal_emulator
    modal_emulator.reset()
    assert modal_emulator.unimplemented == []
    assert [sandbox.name for sandbox in modal_emulator.control.living()] == []


@pytest.fixture
def project(tmp_path):
    path = tmp_path / "project"
    path.mkdir()
    return path
