"""The exec commands exit with their command's code; what they exit with when there is none must not look like one."""

from __future__ import annotations

from itertools import pairwise

from agentctl.errors import AgentctlError, AlreadyExists, SpawnFailed

FAILED = 125


def exit_code(error: AgentctlError, argv: list[str]) -> int:
    """The error's own code; for an exec 127 and 126 as a shell has them, 10 for an ``--exec-id`` that is taken, else
    125."""
    before = argv[: argv.index("--")] if "--" in argv else argv
    words = [word for word in before if not word.startswith("-")]
    if not {("sessions", "exec"), ("sandboxes", "exec")} & {*pairwise(words)}:
        return error.exit_code
    if isinstance(error, SpawnFailed):
        return int(error.details.get("exitCode", FAILED))
    return error.exit_code if isinstance(error, AlreadyExists) else FAILED
