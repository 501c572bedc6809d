"""``--no-progress`` and ``AGENTCTL_NO_PROGRESS``: how pulls, builds, installs and copies go on is not shown."""

from __future__ import annotations

import os

VARIABLE = "AGENTCTL_NO_PROGRESS"


def forbid(wanted: bool) -> bool:
    """The option is the variable for this one command: whatever would show it finds it there."""
    if wanted:
        os.environ[VARIABLE] = "1"
    return wanted


def is_forbidden() -> bool:
    """Whether whoever runs this command wants to see no progress."""
    return os.environ.get(VARIABLE, "").strip().lower() not in ("", "0", "false", "no")
