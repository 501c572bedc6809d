"""Real agents, installed by us and started by their recipes with credentials found by us, on a scripted model: what
``tests/real`` does not show through agentctl."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from agentctl import credentials
from agentctl.agents import recipes
from agentctl.model import Permissions
from agentctl.supervisor.agent import agent_environment
from tests.agents.shared_state import installed_agent
from tests.model_server import ModelServer, mcp_probe
from tests.model_server.agents_env import setup_for
from tests.real.raw_acp import RawAgent, raw_agent

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

Start = Callable[..., AbstractAsyncContextManager[RawAgent]]


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def start(model_server: ModelServer, tmp_path: Path, project: Path) -> Start:
    """Start an agent the way a sandbox does: recipe, permission set-up and the user's credentials, nothing else."""

    @asynccontextmanager
    async def started(name: str, permissions: Permissions, answer_kind: str) -> AsyncIterator[RawAgent]:
        recipe = recipes.load(name)
        installed = await installed_agent(name)
        wired = recipes.to_wire(
            recipe, installed=installed, runtime=tmp_path, python=sys.executable, permissions=permissions
        )
        user = setup_for(name, model_server.url)
        given = credentials.require(recipe, user.environment, tmp_path / "no-home")
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        base = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}
        setup = wired.permissions[permissions]
        environment = agent_environment(base | given.env, wired, setup, {})
        async with raw_agent(list(wired.argv), environment, project, answer_kind=answer_kind) as agent:
            yield agent

    return started


async def test_the_installed_agent_answers_with_the_version_of_its_recipe(start):
    """So do the others where they answer a prompt: see ``test_real_credentials.py``."""
    async with start("pi", "allow", "allow_once") as agent:
        assert agent.info["version"] == recipes.load("pi").version


async def test_opencode_asks_for_mcp_tools_and_not_for_reading_and_in_mode_plan_it_does_not_edit(start, project):
    (project / "readme.txt").write_text("content")
    server = {"name": "probe", "command": sys.executable, "args": [mcp_probe.__file__], "env": []}
    async with start("opencode", "ask", "allow_once") as agent:
        session = await agent.new_session(project, [server])
        await agent.prompt(session, f"[[read:{project / 'readme.txt'}]]")
        assert agent.asked == []
        await agent.prompt(session, '[[mcp:probe.shout {"text": "hi"}]]')
        assert len(agent.asked) == 1
        await agent.call("session/set_mode", {"sessionId": session, "modeId": "plan"})
        await agent.prompt(session, f"[[write:{project / 'made.txt'}|x]]")
        assert not (project / "made.txt").exists()
