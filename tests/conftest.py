"""What every test gets: a clean environment and a state directory of its own."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser):
    parser.addoption("--chaos-seed", type=int, default=None, help="repeat a run of the chaos test (default: random)")
    parser.addoption("--require", action="append", default=[], help="fail, do not skip, without it: docker")
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


@pytest.fixture
def project(tmp_path):
    path = tmp_path / "project"
    path.mkdir()
    return path
