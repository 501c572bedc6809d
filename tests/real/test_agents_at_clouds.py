"""Real agents in sandboxes of the emulated clouds, on a scripted model: brought there, at work, gone, and at work again
in another sandbox with all that they knew."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentctl.agents.installed import installed
from agentctl.agents.node import own_node
from agentctl.agents.platform import npm_platform
from agentctl.ops.programs import key_of
from agentctl.providers.daytona.place import AGENTS
from agentctl.providers.modal.place import installation_of
from tests.agents.shared_state import SHARED
from tests.emulators.daytona.kept import is_kept
from tests.model_server import ModelServer
from tests.model_server.agents_env import setup_for
from tests.real.command_line import CommandLine
from tests.real.installation import InstalledAgents

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]
AGENT = "claude"


@dataclass(frozen=True, slots=True)
class Place:
    """One emulated cloud: what points the SDK at it, what lives there, and how to have that die."""

    environment: dict[str, str]
    living: Callable[[], list[Any]]
    kill: Callable[[Any], None]
    bring: Callable[[Path, dict[str, Path]], None]
    """Have programs of this host there beforehand, by their keys, for sessions of a state directory."""


def modal_place(modal: Any, model: ModelServer) -> Place:
    """Its volume has the agent already. The model server is the one thing that sandboxes reach."""
    modal.reach = (int(model.url.rpartition(":")[2]),)

    def bring(state: Path, programs: dict[str, Path]) -> None:
        volume = f"agentctl-{installation_of(state)}.agents"
        empty = state / "empty"
        empty.mkdir()
        for key, directory in programs.items():
            modal.volumes.bring(volume, key, directory)
            modal.volumes.bring(volume, f".brought/{key}", empty)

    return Place(modal.environment(), modal.control.living, lambda one: modal.run(one.terminate()), bring)


def daytona_place(daytona: Any, model: ModelServer) -> Place:
    """The snapshot has the agent already."""
    key = os.environ["DAYTONA_API_KEY"]

    def kill(sandbox: Any) -> None:
        wait_until(lambda: is_kept(sandbox.machine.binds["/vol"] / "home", since=0))  # there was one turn
        daytona.call(lambda: daytona.cloud.destroy(sandbox))

    def bring(state: Path, programs: dict[str, Path]) -> None:
        for name, directory in programs.items():
            daytona.cloud.images[f"{AGENTS}/{name}"] = (directory, "ro")

    environment = {"DAYTONA_API_URL": daytona.url, "DAYTONA_API_KEY": key}
    return Place(environment, lambda: daytona.sandboxes(key), kill, bring)


def wait_until(is_so: Callable[[], bool], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def programs_of(agent: str) -> dict[str, Path]:
    """By the keys that they have in sandboxes."""
    there = installed(SHARED, agent)
    own = own_node(SHARED, npm_platform())
    node = {} if there.node is None else {f"node/{own.version}": own.path.parents[3]}
    return {key_of(there): there.path, **node}


PLACES = {"modal": modal_place, "daytona": daytona_place}


@pytest.fixture(params=PLACES)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(request: pytest.FixtureRequest, provider: str, model_server: ModelServer) -> Place:
    return PLACES[provider](request.getfixturevalue(provider), model_server)


@pytest.fixture
def agentctl(
    installed_agents: InstalledAgents, provider: str, place: Place, model_server: ModelServer, tmp_path: Path
) -> Iterator[CommandLine]:
    state, home = tmp_path / "state", tmp_path / "home"
    installed_agents.link_into(state, AGENT)
    place.bring(state, programs_of(AGENT))
    home.mkdir()
    base = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb"}
    own = {"AGENTCTL_STATE_DIR": str(state), "AGENTCTL_PROVIDER": provider, **place.environment}
    command_line = CommandLine(base | setup_for(AGENT, model_server.url).environment | own, tmp_path)
    yield command_line
    command_line.close()


def test_an_agent_works_at_a_cloud_goes_on_in_another_sandbox_and_leaves_nothing(
    agentctl: CommandLine, place: Place
) -> None:
    first = ("[[shell:pwd > who.txt && cat who.txt]] [[say:done]]", "--agent", AGENT, "--permissions", "allow")
    done = agentctl.run("run", *first, "--session", "work")
    assert done.code == 0, (done.lines[-3:], done.stderr)
    assert done.result["text"].endswith("done")
    [sandbox] = place.living()
    place.kill(sandbox)
    again = agentctl.run("sessions", "send-message", "work", "[[shell:cat who.txt]] [[say:still here]]")
    assert again.code == 0, (again.lines[-3:], again.stderr)
    assert again.lines[-1]["data"]["context"] == "restored"
    assert again.lines[-1]["data"]["text"].endswith("still here")
    assert agentctl.run("sessions", "delete", "work", "--yes").code == 0
    assert place.living() == []
