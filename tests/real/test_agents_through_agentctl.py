"""Real agents through the command line, on a scripted model: what issue 'the spine of agentctl' calls done."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import ModelServer, mcp_probe
from tests.model_server.agents_env import setup_for
from tests.real.command_line import CommandLine, Finished
from tests.real.installation import InstalledAgents

pytestmark = [pytest.mark.real, pytest.mark.slow]

Json = dict[str, Any]

MODELS = {"claude": ("haiku", "haiku"), "codex": ("gpt-5.6-terra", "gpt-5.6-terra"), "opencode": ("scripted/m2", "m2")}
"""A model to change to, and a part of its name on the wire."""


any_agent_will_do = pytest.mark.parametrize("agent", ["claude", "codex"])
"""Of what agentctl itself does; opencode, which takes 3 s to start, tells nothing new of it."""


@pytest.fixture(params=["claude", "codex", "opencode"])
def agent(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def agentctl(
    agent: str, installed_agents: InstalledAgents, model_server: ModelServer, tmp_path: Path, project: Path
) -> Iterator[CommandLine]:
    """A fresh state directory in which the agents are installed, and the user's variables for the scripted model."""
    state = tmp_path / "state"
    installed_agents.link_into(state, agent)
    home = tmp_path / "home"
    home.mkdir()
    base = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb"}
    environment = base | setup_for(agent, model_server.url).environment | {"AGENTCTL_STATE_DIR": str(state)}
    command_line = CommandLine(environment, project)
    yield command_line
    command_line.close()


def created(agentctl: CommandLine, agent: str, *options: str) -> str:
    """A new session, by its name."""
    assert agentctl.run("sessions", "create", "work", "--agent", agent, *options).code == 0
    return "work"


def send(agentctl: CommandLine, session: str, text: str) -> Finished:
    return agentctl.run("sessions", "send-message-stream", session, text)


def is_text(line: Json) -> bool:
    return line["type"] == "item.delta" and line["data"]["delta"].startswith("chunk")


def wait_for_pid(file: Path, timeout_s: float = 30) -> int:
    deadline = time.monotonic() + timeout_s
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(file.read_text())


def test_text_and_thinking_arrive_and_nothing_is_left_behind(agentctl: CommandLine, agent: str) -> None:
    done = agentctl.run("run", "--agent", agent, "[[think:pondering]] [[say:hello from the script]]")
    assert done.code == 0, (done.lines, done.stderr)
    assert done.result["outcome"] == "completed"
    assert done.result["stop_reason"] == "end_turn"
    assert done.result["text"] == "hello from the script"
    thoughts = [event for event in done.events("item.completed") if event["data"]["item"]["kind"] == "reasoning"]
    assert "pondering" in json.dumps(thoughts)
    agentctl.wait_until_no_process_is_left()


@any_agent_will_do
def test_a_tool_runs_when_everything_is_allowed(agentctl: CommandLine, agent: str, project: Path) -> None:
    done = agentctl.run("run", "--agent", agent, "--permissions", "allow", "[[shell:echo out > c.txt && cat c.txt]]")
    assert done.code == 0, (done.lines, done.stderr)
    assert (project / "c.txt").read_text() == "out\n"
    assert "out" in done.result["text"]


def test_a_tool_runs_after_another_terminal_allowed_it(agentctl: CommandLine, agent: str, project: Path) -> None:
    session = created(agentctl, agent, "--permissions", "ask")
    turn = agentctl.start("sessions", "send-message-stream", session, "[[shell_escalated:echo out > c.txt]]")
    asked = turn.read_until(lambda line: line["type"] == "permission.requested")
    assert not (project / "c.txt").exists()
    waiting = agentctl.run("sessions", "requests", session).data
    assert asked["data"]["permission_id"] in json.dumps(waiting)
    assert agentctl.run("sessions", "answer", session, asked["data"]["permission_id"], "--reply", "once").code == 0
    done = turn.finish()
    assert done.code == 0, (done.lines, done.stderr)
    assert done.result["denied"] == []
    assert (project / "c.txt").read_text() == "out\n"


def test_a_denied_tool_does_not_run_and_the_turn_says_so(agentctl: CommandLine, agent: str, project: Path) -> None:
    session = created(agentctl, agent, "--permissions", "deny")
    made = project / "c.txt"
    for marker in ("shell_escalated:echo out > c.txt", f"write:{made}|out"):
        done = send(agentctl, session, f"[[{marker}]]")
        assert done.code == 5, (marker, done.lines, done.stderr)
        assert done.result["outcome"] == "denied"
        assert [denied["by"] for denied in done.result["denied"]] == ["policy"]
        assert not made.exists()
    send(agentctl, session, "[[shell:echo out > c.txt]]")
    assert not made.exists(), "what is not asked for changes nothing either"


@any_agent_will_do
def test_a_turn_is_cancelled_from_another_terminal(agentctl: CommandLine, agent: str) -> None:
    session = created(agentctl, agent)
    turn = agentctl.start("sessions", "send-message-stream", session, "[[slow:300,0.1]]")
    turn.read_until(is_text)
    assert agentctl.run("sessions", "cancel", session).code == 0
    done = turn.finish(15)
    assert done.code == 130, (done.lines[-3:], done.stderr)
    assert done.result["outcome"] == "cancelled"
    assert send(agentctl, session, "[[say:next]]").result["text"] == "next"


def test_an_interrupt_cancels_the_turn(agentctl: CommandLine, agent: str) -> None:
    turn = agentctl.start("run", "--agent", agent, "[[slow:300,0.1]]")
    turn.read_until(is_text)
    turn.interrupt()
    done = turn.finish(20)
    assert done.code == 130, (done.lines[-3:], done.stderr)
    assert done.result["outcome"] == "cancelled"
    agentctl.wait_until_no_process_is_left()


@any_agent_will_do
def test_an_error_of_the_model_is_a_failed_turn(agentctl: CommandLine, agent: str) -> None:
    done = agentctl.run("run", "--agent", agent, "[[error:400]]")
    assert done.code == 7, (done.lines[-3:], done.stderr)
    assert done.result["outcome"] == "failed"
    assert "scripted error 400" in json.dumps(done.result["error"])


def test_the_model_and_the_mode_are_changed_between_turns(
    agentctl: CommandLine, agent: str, model_server: ModelServer
) -> None:
    session = created(agentctl, agent, "--permissions", "accept-edits")
    send(agentctl, session, "[[say:first]]")
    model, on_the_wire = MODELS[agent]
    changed = agentctl.run("sessions", "set-model", session, model)
    assert changed.code == 0, (changed.lines, changed.stderr)
    assert send(agentctl, session, "[[say:second]]").result["text"] == "second"
    first, second = (model_server.wait_for(f"[[say:{word}]]").model for word in ("first", "second"))
    assert on_the_wire in second
    assert on_the_wire not in first

    mode = {"codex": "read-only"}.get(agent, "plan")
    changed = agentctl.run("sessions", "set-mode", session, mode)
    assert changed.code == 0, (changed.lines, changed.stderr)
    assert send(agentctl, session, "[[say:third]]").code == 0
    events = agentctl.run("sessions", "events", session, "--offset", "0").lines
    assert mode in [event["data"]["mode"] for event in events if event["type"] == "session.config_changed"]


def test_an_mcp_server_is_passed_through(agentctl: CommandLine, agent: str, project: Path) -> None:
    server = {
        "name": "probe",
        "command": sys.executable,
        "args": [mcp_probe.__file__, "--flag"],
        "env": {"PROBE_TOKEN": "t-1"},
    }
    options = ("--agent", agent, "--permissions", "allow", "--mcp-server", json.dumps(server))
    done = agentctl.run("run", *options, '[[mcp:probe.shout {"text":"hi"}]]')
    assert done.code == 0, (done.lines[-3:], done.stderr)
    answer = done.result["text"].replace("\\", "")
    assert '"shouted": "HI"' in answer
    assert '"PROBE_TOKEN": "t-1"' in answer
    assert str(project) in answer


@any_agent_will_do
def test_killing_the_command_in_mid_turn_loses_nothing(agentctl: CommandLine, agent: str) -> None:
    session = created(agentctl, agent)
    turn = agentctl.start("sessions", "send-message-stream", session, "[[slow:20,0.1]]")
    turn.read_until(is_text)
    turn.kill()
    follower = agentctl.start("sessions", "events", session, "--offset", "0", "--follow")
    ended = follower.read_until(lambda line: line["type"] == "turn.ended")
    follower.kill()
    assert ended["data"]["metadata"]["outcome"] == "completed"
    events = agentctl.run("sessions", "events", session, "--offset", "0").lines
    sequences = [event["sequence"] for event in events if "sequence" in event]
    assert sequences == list(range(1, len(sequences) + 1))
    text = "".join(event["data"]["delta"] for event in events if event["type"] == "item.delta")
    assert text.strip() == " ".join(f"chunk{number}" for number in range(20))
    assert agentctl.run("sessions", "delete", session, "--yes").code == 0
    agentctl.wait_until_no_process_is_left()


def test_a_released_session_remembers_and_deleting_it_leaves_no_process(agentctl: CommandLine, agent: str) -> None:
    session = created(agentctl, agent)
    send(agentctl, session, "the codeword is KIWI [[say:noted]]")
    assert agentctl.processes(), "the session's processes must be visible for their absence to mean anything"
    assert agentctl.run("sessions", "release", session).code == 0
    agentctl.wait_until_no_process_is_left()
    recalled = send(agentctl, session, "[[recall]]")
    assert recalled.result["text"] == "RECALL<<the codeword is KIWI [[say:noted]]>> users=2"
    assert recalled.result["context"] == "restored"
    assert agentctl.run("sessions", "delete", session, "--yes").code == 0
    agentctl.wait_until_no_process_is_left()


@any_agent_will_do
def test_deleting_a_session_ends_the_command_that_its_agent_runs(
    agentctl: CommandLine, agent: str, project: Path
) -> None:
    session = created(agentctl, agent, "--permissions", "allow")
    turn = agentctl.start(
        "sessions", "send-message-stream", session, "[[shell:echo $$ > pid; mv pid pid.txt; sleep 301]]"
    )
    command = wait_for_pid(project / "pid.txt")
    assert Path(f"/proc/{command}").exists()
    assert agentctl.run("sessions", "delete", session, "--yes").code == 0
    assert not Path(f"/proc/{command}").exists()
    agentctl.wait_until_no_process_is_left()
    assert turn.finish().result["outcome"] == "interrupted"
