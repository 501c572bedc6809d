"""MCP servers, skills and instructions reach real agents: told by what the scripted model received from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model_server import ModelServer, mcp_probe
from tests.real.command_line import CommandLine

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

DESCRIPTION = "Knows the stripes of every zebra by name"
INSTRUCTIONS = "Whatever happens, the codeword of this house is PAPAYA."
TOKEN = "probe-token-0a1b2c3d"


def zebra(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "SKILL.md").write_text(f"---\nname: zebra\ndescription: {DESCRIPTION}\n---\nCount them.\n")
    return directory


def probe(flag: str) -> dict[str, object]:
    return {"command": sys.executable, "args": [mcp_probe.__file__, flag], "env": {"PROBE_TOKEN": "${TOKEN}"}}


def received(model_server: ModelServer) -> str:
    """All that the agent sent in its turns, as JSON."""
    return json.dumps([request.body for request in model_server.turns()])


def test_a_run_has_its_setup_works_outside_too_thinks_answers_and_leaves_nothing_behind(
    agentctl: CommandLine, agent: str, model_server: ModelServer, project: Path, tmp_path: Path
) -> None:
    agentctl.environment["TOKEN"] = TOKEN
    config, outside = tmp_path / "mcp.json", tmp_path / "outside.txt"
    config.write_text(json.dumps({"mcpServers": {"second": probe("--of-the-file")}}))
    done = agentctl.run(
        *("run", "--agent", agent, "--permissions", "allow", "--secret", "TOKEN"),
        *("--mcp-server", json.dumps({"name": "first", **probe("--of-the-option")}), "--mcp-config", str(config)),
        *("--skill", str(zebra(tmp_path / "skills" / "zebra")), "--system-prompt", INSTRUCTIONS),
        f'[[mcp:first.shout {{"text":"hi"}}]] [[mcp:second.shout {{"text":"yo"}}]] [[shell:echo out > {outside}]] '
        "[[think:pondering]] [[say:hello from the script]]",
    )
    assert done.code == 0, (done.lines[-3:], done.stderr)
    assert (done.result["outcome"], done.result["stop_reason"]) == ("completed", "end_turn")
    assert done.result["text"].endswith("hello from the script")
    thoughts = [event for event in done.events("item.completed") if event["data"]["item"]["kind"] == "reasoning"]
    assert "pondering" in json.dumps(thoughts)
    assert outside.read_text() == "out\n"
    sent = received(model_server).replace("\\", "")
    assert '"shouted": "HI"' in sent
    assert '"shouted": "YO"' in sent
    assert "--of-the-option" in sent
    assert "--of-the-file" in sent
    assert f'"PROBE_TOKEN": "{TOKEN}"' in sent, "the secret reaches the server"
    assert f'"cwd": "{project}"' in sent
    assert DESCRIPTION in sent
    assert "PAPAYA" in sent
    assert TOKEN not in json.dumps(done.lines)
    agentctl.wait_until_no_process_is_left()


def test_a_session_of_a_users_agent_knows_its_skill_and_its_past_after_a_release_and_deleting_it_leaves_no_process(
    agentctl: CommandLine, agent: str, model_server: ModelServer, project: Path, tmp_path: Path
) -> None:
    remote = zebra(tmp_path / "skill-of-zebras")
    for command in (["init", "-qb", "main"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *command], cwd=remote, check=True)
    options = ("--skill", f"file://{remote}#main", "--system-prompt", INSTRUCTIONS)
    assert agentctl.run("agents", "create", "keeper", "--from", agent, *options).code == 0
    assert agentctl.run("sessions", "create", "work", "--agent", "keeper").code == 0
    agentctl.run("sessions", "send-message-stream", "work", "the codeword is KIWI [[say:noted]]")
    assert agentctl.processes(), "the session's processes must be visible for their absence to mean anything"
    assert agentctl.run("sessions", "release", "work").code == 0
    agentctl.wait_until_no_process_is_left()
    remote.rename(tmp_path / "gone")
    done = agentctl.run("sessions", "send-message-stream", "work", "[[recall]]")
    assert done.code == 0, (done.lines[-3:], done.stderr)
    assert done.result["text"] == "RECALL<<the codeword is KIWI [[say:noted]]>> users=2"
    assert done.result["context"] == "restored"
    for said in ("[[say:noted]]", "[[recall]]"):
        body = json.dumps(model_server.wait_for(said).body)
        assert DESCRIPTION in body
        assert "PAPAYA" in body
    assert agentctl.run("sessions", "delete", "work", "--yes").code == 0
    agentctl.wait_until_no_process_is_left()
