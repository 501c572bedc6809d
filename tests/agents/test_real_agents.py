"""Real agents, installed by us and started by their recipes with credentials found by us, on a scripted model."""

from __future__ import annotations

import json
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

pytestmark = [pytest.mark.real, pytest.mark.slow]

Start = Callable[..., AbstractAsyncContextManager[RawAgent]]
REAL = ("claude", "codex", "opencode")


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


async def session_with_mode(agent: RawAgent, name: str, permissions: Permissions, project: Path, **kwargs) -> str:
    session = await agent.new_session(project, **kwargs)
    mode = recipes.load(name).permissions[permissions].mode
    if mode is not None:
        await agent.call("session/set_mode", {"sessionId": session, "modeId": mode})
    return session


@pytest.mark.parametrize("name", ["gemini", "pi"])
async def test_the_installed_agent_answers_with_the_version_of_its_recipe(name, start):
    async with start(name, "allow", "allow_once") as agent:
        answer = await agent.start()
        assert answer["agentInfo"]["version"] == recipes.load(name).version


@pytest.mark.parametrize("name", REAL)
async def test_under_deny_nothing_changes_a_file_and_an_edit_is_asked_for_so_that_the_denial_is_seen(
    name, start, project
):
    made = project / "made.txt"
    async with start(name, "deny", "reject_once") as agent:
        session = await session_with_mode(agent, name, "deny", project)
        await agent.prompt(session, "[[shell:echo x > made.txt]]")
        assert not made.exists()
        agent.asked.clear()
        await agent.prompt(session, f"[[write:{made}|x]]")
        assert not made.exists()
        assert agent.asked


@pytest.mark.parametrize("name", REAL)
async def test_under_ask_an_edit_is_asked_for_and_done_after_a_yes(name, start, project):
    made = project / "made.txt"
    async with start(name, "ask", "allow_once") as agent:
        session = await session_with_mode(agent, name, "ask", project)
        await agent.prompt(session, f"[[write:{made}|written]]")
        assert len(agent.asked) == 1
        assert "written" in made.read_text()


@pytest.mark.parametrize("name", ["codex", "opencode"])
async def test_under_accept_edits_an_edit_passes_and_a_command_that_leaves_is_asked_for(name, start, project):
    made = project / "made.txt"
    async with start(name, "accept-edits", "allow_once") as agent:
        session = await session_with_mode(agent, name, "accept-edits", project)
        await agent.prompt(session, f"[[write:{made}|written]]")
        assert (agent.asked, "written" in made.read_text()) == ([], True)
        await agent.prompt(session, "[[shell_escalated:echo hi]]")
        assert len(agent.asked) == 1


@pytest.mark.parametrize("name", REAL)
async def test_the_agent_of_the_recipes_version_may_write_anywhere_under_allow(name, start, project, tmp_path):
    outside = tmp_path / "outside.txt"
    async with start(name, "allow", "allow_once") as agent:
        answer = await agent.start()
        assert answer["agentInfo"]["version"] == recipes.load(name).version
        session = await session_with_mode(agent, name, "allow", project)
        await agent.prompt(session, f"[[shell:echo x > {outside}]]")
        assert outside.read_text() == "x\n"


PERMISSIVE = {"bash": "allow", "*": "allow", "edit": {"*": "allow"}}


async def test_a_configuration_that_allows_everything_does_not_keep_opencode_from_asking(start, project):
    config = {"permission": PERMISSIVE, "agent": {"build": {"permission": PERMISSIVE}}}
    (project / "opencode.json").write_text(json.dumps(config))
    async with start("opencode", "deny", "reject_once") as agent:
        session = await agent.new_session(project)
        await agent.prompt(session, "[[shell:echo x > made.txt]]")
        assert len(agent.asked) == 1
        await agent.prompt(session, f"[[write:{project / 'made.txt'}|x]]")
        assert len(agent.asked) == 2
        assert not (project / "made.txt").exists()


@pytest.mark.parametrize("permissions", ["ask", "accept-edits"])
async def test_opencode_in_mode_plan_does_not_edit(permissions, start, project):
    async with start("opencode", permissions, "allow_once") as agent:
        session = await agent.new_session(project)
        await agent.call("session/set_mode", {"sessionId": session, "modeId": "plan"})
        await agent.prompt(session, f"[[write:{project / 'made.txt'}|x]]")
        assert not (project / "made.txt").exists()


async def test_a_repository_cannot_allow_claude_what_was_denied(start, project):
    (project / ".claude").mkdir()
    rules = {"permissions": {"allow": ["Bash(*)", "Write", "Edit"], "defaultMode": "bypassPermissions"}}
    (project / ".claude/settings.json").write_text(json.dumps(rules))
    async with start("claude", "deny", "reject_once") as agent:
        session = await session_with_mode(agent, "claude", "deny", project)
        await agent.prompt(session, "[[shell:echo x > made.txt]]")
        await agent.prompt(session, f"[[write:{project / 'made.txt'}|x]]")
        assert len(agent.asked) == 2
        assert not (project / "made.txt").exists()


async def test_a_repository_cannot_open_the_sandbox_of_codex(start, project):
    (project / ".codex").mkdir()
    (project / ".codex/config.toml").write_text('approval_policy = "never"\nsandbox_mode = "danger-full-access"\n')
    async with start("codex", "deny", "reject_once") as agent:
        session = await session_with_mode(agent, "codex", "deny", project)
        await agent.prompt(session, "[[shell:echo x > made.txt]]")
        assert not (project / "made.txt").exists()


async def test_opencode_asks_for_mcp_tools_and_not_for_reading(start, project):
    (project / "readme.txt").write_text("content")
    server = {"name": "probe", "command": sys.executable, "args": [mcp_probe.__file__], "env": []}
    async with start("opencode", "ask", "allow_once") as agent:
        session = await agent.new_session(project, [server])
        await agent.prompt(session, f"[[read:{project / 'readme.txt'}]]")
        assert agent.asked == []
        await agent.prompt(session, '[[mcp:probe.shout {"text": "hi"}]]')
        assert len(agent.asked) == 1
