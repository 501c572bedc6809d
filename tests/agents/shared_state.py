"""The state directory in which tests install real agents: once per machine, by our own installer."""

from __future__ import annotations

from pathlib import Path

from agentctl.agents.install import install
from agentctl.agents.installed import Installed
from agentctl.paths import StatePaths

SHARED = StatePaths(Path.home() / ".cache/agentctl-tests/state")


async def installed_agent(name: str) -> Installed:
    """The pinned version of the agent, installed from npm if it is not there yet."""
    return await install(SHARED, name)
