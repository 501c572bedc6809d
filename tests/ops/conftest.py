"""An application on a state directory of its own, whose sessions end with the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentctl.ops import session_end
from agentctl.ops.app import App


@pytest.fixture(scope="session")
def shared_runtime(tmp_path_factory):
    """The unpacked supervisor, made once for all tests rather than once for each state directory."""
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(autouse=True)
def quick_state(clean_environment, shared_runtime):
    """A state directory that has the supervisor already."""
    furnish(Path(os.environ["AGENTCTL_STATE_DIR"]), shared_runtime)


def furnish(state, runtime):
    state.mkdir(mode=0o700)
    (state / "runtime").symlink_to(runtime)


@pytest.fixture
async def app(quick_state):
    with App.open() as opened:
        yield opened
        for session in opened.store.sessions(limit=None):
            await session_end.delete(opened, session.id)
