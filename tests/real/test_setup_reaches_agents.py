"""MCP servers, skills and instructions reach real agents: told by what the scripted model received from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model_server import ModelServer, mcp_probe
from tests.model_server.agents_env import setup_for
from tests.real.command_line import CommandLine
from tests.real.installation import InstalledAgents

pytestmark = [pytest.mark.real, pytest.mark.slow]

DESCRIPTION = "Knows the stripes of every zebra by name"
INSTRUCTIONS = "Whatever happens, the codeword of this house is PAPAYA."
TOKEN = "probe-token-0a1b2c3d"


@pytest.fixture(params=["claude", "codex", "opencode"])
def agent(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def agentctl(
    agent: str, installed_agents: InstalledAgents, model_server: ModelServer, tmp_path: Path
) -> Iterator[CommandLine]:
    state, home, project = tmp_path / "state", tmp_path / "home", tmp_path / "project"
    installed_agents.link_into(state, agent)
    home.mkdir()
    project.mkdir()
    base = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb", "TOKEN": TOKEN}
    environment = base | setup_for(agent, model_server.url).environment | {"AGENTCTL_STATE_DIR": str(state)}
    command_line = CommandLine(environment, project)
    yield command_line
    command_line.close()


def zebra(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "SKILL.md").write_text(f"---\nname: zebra\ndescription: {DESCRIPTION}\n---\nCount them.\n")
    return directory


def probe(flag: str) -> dict[str, object]:
    return {"command": sys.executable, "args": [mcp_probe.__file__, flag], "env": {"PROBE_TOKEN": "${TOKEN}"}}


def received(model_server: ModelServer) -> str:
    """All that the agent sent in its turns, as JSON."""
    return json.dumps([request.body for request in model_server.turns()])


def test_mcp_servers_a_skill_and_instructions_reach_the_agent(
    agentctl: CommandLine, agent: str, model_server: ModelServer, tmp_path: Path
) -> None:
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"second": probe("--of-the-file")}}))
    done = agentctl.run(
        *("run", "--agent", agent, "--permissions", "allow", "--secret", "TOKEN"),
        *("--mcp-server", json.dumps({"name": "first", **probe("--of-the-option")}), "--mcp-config", str(config)),
        *("--skill", str(zebra(tmp_path / "skills" / "zebra")), "--system-prompt", INSTRUCTIONS),
        '[[mcp:first.shout {"text":"hi"}]] [[mcp:second.shout {"text":"yo"}]] [[say:done]]',
    )
    assert done.code == 0, (done.lines[-3:], done.stderr)
    sent = received(model_server).replace("\\", "")
    assert '"shouted": "HI"' in sent
    assert '"shouted": "YO"' in sent
    assert "--of-the-option" in sent
    assert "--of-the-file" in sent
    assert f'"PROBE_TOKEN": "{TOKEN}"' in sent, "the secret reaches the server"
    assert DESCRIPTION in sent
    assert "PAPAYA" in sent
    assert TOKEN not in json.dumps(done.lines)


def test_the_skill_of_a_repository_reaches_the_agent_that_a_user_made(
    agentctl: CommandLine, agent: str, model_server: ModelServer, tmp_path: Path
) -> None:
    remote = zebra(tmp_path / "skill-of-zebras")
    for command in (["init", "-qb", "main"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], cwd=remote, check=True)
    options = ("--skill", f"file://{remote}#main", "--system-prompt", INSTRUCTIONS)
    assert agentctl.run("agents", "create", "keeper", "--from", agent, *options).code == 0
    assert agentctl.run("sessions", "create", "work", "--agent", "keeper").code == 0
    agentctl.run("sessions", "send-message-stream", "work", "[[say:one]]")
    assert agentctl.run("sessions", "release", "work").code == 0
    remote.rename(tmp_path / "gone")
    done = agentctl.run("sessions", "send-message-stream", "work", "[[say:two]]")
    assert done.code == 0, (done.lines[-3:], done.stderr)
    for word in ("one", "two"):
        body = json.dumps(model_server.wait_for(f"[[say:{word}]]").body)
        assert DESCRIPTION in body
        assert "PAPAYA" in body
