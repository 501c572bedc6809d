"""Options of every command that are variables too: ``--no-input`` and ``--no-progress``."""

from __future__ import annotations

import os


class Switch:
    """An option that forbids something, and the environment variable that does so for every command."""

    def __init__(self, variable: str) -> None:
        self._variable = variable

    def forbid(self, wanted: bool) -> bool:
        """The option is the variable for this one command: whatever asks ``is_forbidden`` finds it there."""
        if wanted:
            os.environ[self._variable] = "1"
        return wanted

    def is_forbidden(self) -> bool:
        """Whether whoever runs this command wants none of it."""
        return os.environ.get(self._variable, "").strip().lower() not in ("", "0", "false", "no")


NO_INPUT = Switch("AGENTCTL_NO_INPUT")
"""Nobody is asked anything, although a terminal is there."""

NO_PROGRESS = Switch("AGENTCTL_NO_PROGRESS")
"""How pulls, builds, installs and copies go on is not shown."""
