"""What tests of the command line share: terminals that are closed, and sessions that are deleted."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from agentctl.paths import StatePaths
from tests.cli.running import agentctl as run_agentctl
from tests.cli.terminal import Terminal
from tests.cli.terminal import agentctl as command_line
from tests.cli.watching import Effects


def _state():
    return Path(os.environ["AGENTCTL_STATE_DIR"])


@pytest.fixture(scope="session")
def shared_runtime(tmp_path_factory):
    """The unpacked supervisor, made once for all tests rather than once for each state directory."""
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(autouse=True)
def no_sandbox_is_left(clean_environment, shared_runtime):
    """Delete the sessions of this test's state directory that have a sandbox, so that no process outlives the test."""
    _state().mkdir(mode=0o700)
    (_state() / "runtime").symlink_to(shared_runtime)
    own = _state()
    yield
    _delete_sessions(own)


def _delete_sessions(state):
    if (state / "agentctl.db").exists():
        ids = [row[0] for row in _read("select id from sessions where sandbox_id is not null", state)]
        if ids:
            done = run_agentctl("sessions", "delete", "--yes", *ids, env={"AGENTCTL_STATE_DIR": str(state)})
            assert done.code == 0, done


@pytest.fixture(scope="module")
def module_state(tmp_path_factory, shared_runtime):
    """A state directory that the tests of a module may share."""
    state = tmp_path_factory.mktemp("module") / "state"
    state.mkdir(mode=0o700)
    (state / "runtime").symlink_to(shared_runtime)
    yield state
    _delete_sessions(state)


@pytest.fixture
def awake(module_state, monkeypatch):
    """The name of a session of the mock agent whose sandbox is up: one for all tests of the module that take it."""
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(module_state))
    if not (module_state / "agentctl.db").exists():
        assert run_agentctl("sessions", "create", "work", "--agent", "mock", "--no-provision").code == 0
        assert run_agentctl("sessions", "exec", "work", "--", "true").code == 0
    return "work"


def _read(query, state=None):
    database = sqlite3.connect((state or _state()) / "agentctl.db")
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


@pytest.fixture
def terminal():
    """Start agentctl on a terminal: ``terminal("run", "--agent", "mock", "Hello")``."""
    started = []

    def start(*args, **how):
        started.append(Terminal(command_line(*args), **how))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def session():
    """The name of a session of the mock agent that was not started yet."""
    done = run_agentctl("sessions", "create", "work", "--agent", "mock", "--no-provision")
    assert done.code == 0, done
    return "work"


@pytest.fixture
def rows():
    """Read the state directory's database."""
    return _read


@pytest.fixture
def effects(tmp_path):
    made = Effects(tmp_path)
    yield made
    made.close()


@pytest.fixture
def docker(docker_engine, docker_api, docker_image, monkeypatch):
    """The name of this state directory's installation, whose provider is docker; nothing of it is left in the engine
    afterwards."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    monkeypatch.setenv("AGENTCTL_PROVIDER", "docker")
    monkeypatch.setenv("AGENTCTL_IMAGE", docker_image)
    from tests.docker.support import clear, installation

    own = installation(StatePaths(_state()))
    yield own
    clear(docker_api, own)
