"""The scripted model server is good enough for real agents: claude, codex and opencode run whole turns on it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.model_server import ModelServer, mcp_probe
from tests.model_server.agents_env import asking_setup_for
from tests.real.installation import InstalledAgents
from tests.real.raw_acp import AgentError, RawAgent, raw_agent

pytestmark = [pytest.mark.real, pytest.mark.slow]

Start = Callable[..., AbstractAsyncContextManager[RawAgent]]


@pytest.fixture(params=["claude", "codex", "opencode"])
def agent_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def start(
    agent_name: str, installed_agents: InstalledAgents, model_server: ModelServer, tmp_path: Path, project: Path
) -> Start:
    """Start the agent in a clean environment; the HOME stays the same for one test."""
    setup = asking_setup_for(agent_name, model_server.url)
    home = tmp_path / "home"
    home.mkdir()
    setup.write_files(home)
    clean = {"HOME": str(home), "PATH": installed_agents.path(agent_name), "LANG": "C.UTF-8", "TERM": "dumb"}

    def started(answer_kind: str = "allow_once") -> AbstractAsyncContextManager[RawAgent]:
        argv = installed_agents.argv(agent_name)
        return raw_agent(argv, clean | setup.environment, project, answer_kind=answer_kind)

    return started


async def test_text_and_thinking_arrive_and_the_turn_ends_normally(start: Start, project: Path) -> None:
    async with start() as agent:
        session = await agent.new_session(project)
        result = await agent.prompt(session, "[[think:pondering deeply]] [[say:hello from the script]]")
        assert result["stopReason"] == "end_turn"
        assert agent.text() == "hello from the script"
        assert agent.text("agent_thought_chunk").strip() == "pondering deeply"


async def test_a_command_runs_after_its_permission_and_its_output_reaches_the_model(
    start: Start, project: Path
) -> None:
    async with start() as agent:
        session = await agent.new_session(project)
        result = await agent.prompt(session, "[[say:running it]] [[shell_escalated:echo out > c.txt && cat c.txt]]")
        assert result["stopReason"] == "end_turn"
        assert len(agent.asked) == 1
        assert (project / "c.txt").read_text() == "out\n"
        assert agent.text().startswith("running it")
        assert "RESULT<<" in agent.text()
        assert "out" in agent.text().partition("RESULT<<")[2]


async def test_a_rejected_command_does_not_run(start: Start, project: Path) -> None:
    async with start(answer_kind="reject_once") as agent:
        session = await agent.new_session(project)
        await agent.prompt(session, "[[shell_escalated:echo out > c.txt]]")
        assert len(agent.asked) == 1
        assert not (project / "c.txt").exists()


async def test_a_turn_is_cancelled_in_flight(start: Start, project: Path) -> None:
    async with start() as agent:
        session = await agent.new_session(project)
        turn = asyncio.create_task(agent.prompt(session, "[[slow:200,0.1]]"))
        await agent.wait_for_update(lambda update: update["sessionUpdate"] == "agent_message_chunk")
        agent.notify("session/cancel", {"sessionId": session})
        result = await asyncio.wait_for(turn, 10)
        assert result["stopReason"] == "cancelled"
        assert "chunk0" in agent.text()
        assert "chunk199" not in agent.text()


async def test_an_http_error_of_the_model_is_told(start: Start, project: Path, agent_name: str) -> None:
    async with start() as agent:
        session = await agent.new_session(project)
        if agent_name == "codex":
            # Its failed turns look like normal ends; the thread's status tells.
            await agent.prompt(session, "[[error:400]]")
            statuses = [update.get("_meta", {}).get("codex", {}).get("threadStatus") for update in agent.updates]
            assert {"type": "systemError"} in statuses
            assert "scripted error 400" in agent.text()
        else:
            with pytest.raises(AgentError, match="scripted error 400"):
                await agent.prompt(session, "[[error:400]]")


async def test_the_history_is_restored_in_a_new_process(start: Start, project: Path) -> None:
    async with start() as agent:
        session = await agent.new_session(project)
        await agent.prompt(session, "the codeword is KIWI [[say:noted]]")
    async with start() as agent:
        await agent.call("session/load", {"sessionId": session, "cwd": str(project), "mcpServers": []})
        await agent.prompt(session, "[[recall]]")
        assert agent.text() == "RECALL<<the codeword is KIWI [[say:noted]]>> users=2"


async def test_an_mcp_server_of_the_session_is_started_and_called(start: Start, project: Path) -> None:
    probe = {
        "name": "probe",
        "command": sys.executable,
        "args": [mcp_probe.__file__, "--flag"],
        "env": [{"name": "PROBE_TOKEN", "value": "t-1"}],
    }
    async with start() as agent:
        session = await agent.new_session(project, [probe])
        await agent.prompt(session, '[[mcp:probe.shout {"text":"hi"}]]')
        answer = agent.text().replace("\\", "")
        assert '"shouted": "HI"' in answer
        assert '"PROBE_TOKEN": "t-1"' in answer
        assert json.dumps(["--flag"]) in answer
        assert str(project) in answer
