"""What every test gets: a clean environment and a state directory of its own."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser):
    parser.addoption("--chaos-seed", type=int, default=None, help="repeat a run of the chaos test (default: random)")
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
