"""Real agents through the command line, on a scripted model: what issue 'the spine of agentctl' calls done."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import ModelServer
from tests.real.command_line import CommandLine, Finished

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]

Json = dict[str, Any]

OPEN = {"bash": "allow", "*": "allow", "edit": {"*": "allow"}}
HOSTILE = {
    "claude": (
        ".claude/settings.json",
        '{"permissions": {"allow": ["Bash(*)", "Write", "Edit"], "defaultMode": "bypassPermissions"}}',
    ),
    "codex": (".codex/config.toml", 'approval_policy = "never"\nsandbox_mode = "danger-full-access"\n'),
    "opencode": (
        "opencode.json",
        json.dumps({"permission": OPEN, "agent": {"build": {"permission": OPEN}}}),
    ),
}
"""A file with which a repository would have everything allowed."""

MODELS = {"claude": ("haiku", "haiku"), "codex": ("gpt-5.6-terra", "gpt-5.6-terra"), "opencode": ("scripted/m2", "m2")}
"""A model to change to, and a part of its name on the wire."""


any_agent_will_do = pytest.mark.parametrize("agent", ["codex"])
"""Of what agentctl itself does; the others, which take longer to start, tell nothing new of it."""

not_opencode = pytest.mark.parametrize("agent", ["claude", "codex"])
"""It tries again for a minute after an error, and takes five times as long to start."""


def created(agentctl: CommandLine, agent: str, *options: str) -> str:
    """A new session, by its name."""
    assert agentctl.run("sessions", "create", "work", "--agent", agent, *options).code == 0
    return "work"


def send(agentctl: CommandLine, session: str, text: str) -> Finished:
    return agentctl.run("sessions", "send-message-stream", session, text)


def is_text(line: Json) -> bool:
    return line["type"] == "item.delta" and line["data"]["delta"].startswith("chunk")


def wait_for_pid(file: Path, timeout_s: float = 60) -> int:
    deadline = time.monotonic() + timeout_s
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(file.read_text())


def asked_and_allowed(agentctl: CommandLine, session: str, text: str) -> Finished:
    """A turn whose one request is answered from another terminal."""
    turn = agentctl.start("sessions", "send-message-stream", session, text)
    asked = turn.read_until(lambda line: line["type"] == "permission.requested")["data"]["permission_id"]
    assert asked in json.dumps(agentctl.run("sessions", "requests", session).data)
    assert agentctl.run("sessions", "answer", session, asked, "--reply", "once").code == 0
    done = turn.finish()
    assert done.code == 0, (done.lines, done.stderr)
    assert done.result["denied"] == []
    assert len(done.events("permission.requested")) == 1
    return done


def test_a_tool_and_an_edit_wait_for_another_terminal_and_a_turn_is_cancelled_from_there(
    agentctl: CommandLine, agent: str, project: Path
) -> None:
    session = created(agentctl, agent, "--permissions", "ask")
    asked_and_allowed(agentctl, session, "[[shell_escalated:echo out > c.txt]]")
    assert (project / "c.txt").read_text() == "out\n"
    asked_and_allowed(agentctl, session, f"[[write:{project / 'made.txt'}|written]]")
    assert "written" in (project / "made.txt").read_text()

    turn = agentctl.start("sessions", "send-message-stream", session, "[[slow:300,0.1]]")
    turn.read_until(is_text)
    assert agentctl.run("sessions", "cancel", session).code == 0
    done = turn.finish()
    assert done.code == 130, (done.lines[-3:], done.stderr)
    assert done.result["outcome"] == "cancelled"
    assert send(agentctl, session, "[[say:next]]").result["text"] == "next"


def test_a_denied_tool_does_not_run_whatever_the_repository_allows_and_the_turn_says_so(
    agentctl: CommandLine, agent: str, project: Path
) -> None:
    name, text = HOSTILE[agent]
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text(text)
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


def test_edits_pass_where_they_may_until_the_mode_is_changed_and_so_is_the_model(
    agentctl: CommandLine, agent: str, model_server: ModelServer, project: Path
) -> None:
    session = created(agentctl, agent, "--permissions", "accept-edits")
    first = send(agentctl, session, f"[[write:{project / 'made.txt'}|written]] [[say:first]]")
    assert first.code == 0, (first.lines, first.stderr)
    answered_by = [event["data"]["metadata"]["by"] for event in first.events("permission.resolved")]
    assert answered_by == (["policy"] if agent == "claude" else []), "the others do not even ask"
    assert "written" in (project / "made.txt").read_text()
    asked_and_allowed(agentctl, session, "[[shell_escalated:echo out > c.txt]]")

    model, on_the_wire = MODELS[agent]
    changed = agentctl.run("sessions", "set-model", session, model)
    assert changed.code == 0, (changed.lines, changed.stderr)
    assert send(agentctl, session, "[[say:second]]").result["text"] == "second"
    before, after = (model_server.wait_for(f"[[say:{word}]]").model for word in ("first", "second"))
    assert on_the_wire in after
    assert on_the_wire not in before

    mode = {"codex": "read-only"}.get(agent, "plan")
    changed = agentctl.run("sessions", "set-mode", session, mode)
    assert changed.code == 0, (changed.lines, changed.stderr)
    assert send(agentctl, session, "[[say:third]]").code == 0
    events = agentctl.run("sessions", "events", session, "--offset", "0").lines
    assert mode in [event["data"]["mode"] for event in events if event["type"] == "session.config_changed"]
    if agent == "opencode":  # its plan mode is made of our rules
        send(agentctl, session, f"[[write:{project / 'planned.txt'}|x]]")
        assert not (project / "planned.txt").exists()


@any_agent_will_do
def test_an_interrupt_cancels_a_run_of_which_nothing_is_left(agentctl: CommandLine, agent: str) -> None:
    turn = agentctl.start("run", "--agent", agent, "[[slow:300,0.1]]")
    turn.read_until(is_text)
    turn.interrupt()
    done = turn.finish()
    assert done.code == 130, (done.lines[-3:], done.stderr)
    assert done.result["outcome"] == "cancelled"
    agentctl.wait_until_no_process_is_left()


@not_opencode
def test_an_error_of_the_model_and_a_killed_command_lose_nothing_and_deleting_ends_what_the_agent_runs(
    agentctl: CommandLine, agent: str, project: Path
) -> None:
    session = created(agentctl, agent, "--permissions", "allow")
    failed = send(agentctl, session, "[[error:400]]")
    assert failed.code == 7, (failed.lines[-3:], failed.stderr)
    assert failed.result["outcome"] == "failed"
    assert "scripted error 400" in json.dumps(failed.result["error"])

    turn = agentctl.start("sessions", "send-message-stream", session, "[[slow:20,0.05]]")
    turn_id = turn.read_until(is_text)["turn_id"]
    turn.kill()
    follower = agentctl.start("sessions", "events", session, "--offset", "0", "--follow")
    ended = follower.read_until(lambda line: line["type"] == "turn.ended" and line["turn_id"] == turn_id)
    follower.kill()
    assert ended["data"]["metadata"]["outcome"] == "completed"
    events = agentctl.run("sessions", "events", session, "--offset", "0").lines
    sequences = [event["sequence"] for event in events if "sequence" in event]
    assert sequences == list(range(1, len(sequences) + 1))
    mine = [event for event in events if event["type"] == "item.delta" and event["turn_id"] == turn_id]
    text = "".join(event["data"]["delta"] for event in mine)
    assert text.strip() == " ".join(f"chunk{number}" for number in range(20))

    running = agentctl.start(
        "sessions", "send-message-stream", session, "[[shell:echo $$ > pid; mv pid pid.txt; sleep 301]]"
    )
    command = wait_for_pid(project / "pid.txt")
    assert Path(f"/proc/{command}").exists()
    assert agentctl.run("sessions", "delete", session, "--yes").code == 0
    assert not Path(f"/proc/{command}").exists()
    agentctl.wait_until_no_process_is_left()
    assert running.finish().result["outcome"] == "interrupted"
