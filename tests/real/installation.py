"""Where the real agents of these tests come from: agentctl installs them, once per machine."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

from agentctl.agents import recipes
from agentctl.agents.installed import installed
from agentctl.wire import Recipe
from tests.agents.shared_state import SHARED
from tests.real.command_line import PROGRAM


class InstalledAgents:
    """Real agents by name. Each method installs the agent first if it is missing."""

    def argv(self, agent: str) -> list[str]:
        """The command that starts the agent as an ACP server on its standard streams."""
        return list(self._recipe(agent).argv)

    def path(self, agent: str) -> str:
        """The PATH the agent needs."""
        return ":".join([*self._recipe(agent).path, "/usr/local/bin", "/usr/bin", "/bin"])

    def link_into(self, state: Path, agent: str) -> None:
        """Make the agent an installed one of the state directory ``state``."""
        self._recipe(agent)
        state.mkdir(mode=0o700, exist_ok=True)
        (state / "agents").symlink_to(SHARED.agents)

    @functools.cache  # noqa: B019 - one instance lives as long as the test session
    def _recipe(self, agent: str) -> Recipe:
        environment = {**os.environ, "AGENTCTL_STATE_DIR": str(SHARED.root)}
        subprocess.run([PROGRAM, "agents", "install", agent], check=True, env=environment, stdin=subprocess.DEVNULL)
        return recipes.to_wire(
            recipes.load(agent),
            installed=installed(SHARED, agent),
            runtime=SHARED.runtime,
            python=sys.executable,
            permissions="allow",
        )
