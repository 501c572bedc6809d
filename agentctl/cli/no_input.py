"""``--no-input`` and ``AGENTCTL_NO_INPUT``: nobody is asked anything, although a terminal is there."""

from __future__ import annotations

import os

VARIABLE = "AGENTCTL_NO_INPUT"


def forbid(wanted: bool) -> bool:
    """The option is the variable for this one command: whatever would ask finds it there."""
    if wanted:
        os.environ[VARIABLE] = "1"
    return wanted


def is_forbidden() -> bool:
    """Whether whoever runs this command wants no questions."""
    return os.environ.get(VARIABLE, "").strip().lower() not in ("", "0", "false", "no")
