"""What is kept of an error that nobody foresaw."""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from agentctl.cli.log import own_words
from agentctl.errors import AgentctlError
from agentctl.paths import StatePaths, default_state_dir


def report_crash(e: Exception, argv: list[str]) -> Path | None:
    """Write the traceback to ``<state>/logs/crash-….log`` (0600); None when it cannot be written.

    Only our own words of the command line are kept, so that no message or secret lands in the file.
    """
    try:
        logs = StatePaths(default_state_dir()).ensure().logs
        logs.mkdir(mode=0o700, exist_ok=True)
        path = logs / f"crash-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
            f.write(f"agentctl {' '.join(own_words(argv))}\n\n")
            f.write(without_secrets("".join(traceback.format_exception(e))))
    except (OSError, AgentctlError):
        return None
    return path


def without_secrets(text: str) -> str:
    """An unexpected error may hold anything. Where no secret was read, the module that knows them is not loaded."""
    module = sys.modules.get("agentctl.ops.secrets")
    return str(module.unsaid(text)) if module else text
