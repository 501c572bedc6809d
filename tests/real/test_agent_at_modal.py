"""A real agent in a sandbox of the emulated Modal, on a scripted model: brought there, at work, gone again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import ModelServer
from tests.model_server.agents_env import setup_for
from tests.real.command_line import CommandLine
from tests.real.installation import InstalledAgents

pytestmark = [pytest.mark.real, pytest.mark.slow]
AGENT = "opencode"
"""The one that is quickly sent: few files, and no Node."""


@pytest.fixture
def agentctl(installed_agents: InstalledAgents, modal: Any, tmp_path: Path) -> Iterator[CommandLine]:
    """The model server is the one thing that sandboxes reach."""
    state, home = tmp_path / "state", tmp_path / "home"
    installed_agents.link_into(state, AGENT)
    home.mkdir()
    with ModelServer() as model_server:
        modal.reach = (int(model_server.url.rpartition(":")[2]),)
        base = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb"}
        own = {"AGENTCTL_STATE_DIR": str(state), "AGENTCTL_PROVIDER": "modal", **modal.environment()}
        command_line = CommandLine(base | setup_for(AGENT, model_server.url).environment | own, tmp_path)
        yield command_line
        command_line.close()


def test_an_agent_works_at_modal_goes_on_in_another_sandbox_and_leaves_nothing(
    agentctl: CommandLine, modal: Any
) -> None:
    made = agentctl.run("sessions", "create", "work", "--agent", AGENT, "--permissions", "allow")
    assert made.code == 0, made.lines
    done = agentctl.run("sessions", "send-message", "work", "[[shell:pwd > who.txt && cat who.txt]] [[say:done]]")
    assert done.code == 0, (done.lines[-3:], done.stderr)
    assert done.lines[-1]["data"]["text"].endswith("done")
    [first] = modal.control.living()
    modal.run(first.terminate())
    again = agentctl.run("sessions", "send-message", "work", "[[shell:cat who.txt]] [[say:still here]]")
    assert again.code == 0, (again.lines[-3:], again.stderr)
    assert again.lines[-1]["data"]["context"] == "restored"
    assert again.lines[-1]["data"]["text"].endswith("still here")
    assert agentctl.run("sessions", "delete", "work", "--yes").code == 0
    assert modal.control.living() == []
