"""What each exit code means, and the ``error.code`` words that go with it: what ``agentctl help exit-codes`` tells."""

from __future__ import annotations

import textwrap

MEANINGS: dict[int, str] = {
    0: "done (the turn ended by itself)",
    1: "unexpected error, or the answer is no (`doctor`, a question that was not answered with yes)",
    2: "usage: nothing was changed",
    3: "timeout, or a turn that stalled",
    4: "not found",
    5: "permission denied, or nobody there to ask",
    6: "credentials missing or rejected",
    7: "the agent is missing, crashed or broke the protocol",
    8: "a provider or sandbox is unavailable or failed",
    9: "the turn ended unfinished: refusal, max_tokens, max_turn_requests",
    10: "conflict or busy",
    11: "the conversation's context was lost (with --on-lost fail)",
    129: "hung up: the terminal was closed; a turn goes on without it",
    130: "Ctrl-C: the turn was cancelled",
    141: "the reader of the output left",
    143: "SIGTERM: the turn was cancelled",
}

_OF_OUTCOMES = {8: {"interrupted"}, 130: {"cancelled"}, 143: {"cancelled"}}
"""Words of a turn's outcome, where no class of error has one."""

_OF_COMMANDS = """
exec and shell exit with the command's own code: 128 + N for signal N, 124 after --timeout, 126 and 127 as a
shell has them, 125 when agentctl itself failed.
"""


def words(exit_code: int) -> set[str]:
    """Every ``error.code`` that a command which exits so may tell."""
    from agentctl import errors

    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.AgentctlError)]
    return {cls.code for cls in classes if cls.exit_code == exit_code} | _OF_OUTCOMES.get(exit_code, set())


def text() -> str:
    """The table for a person."""
    lines = []
    for code, meaning in MEANINGS.items():
        lines.append(f"{code:>5}  {meaning}")
        lines += [f"       {line}" for line in textwrap.wrap(", ".join(sorted(words(code))), 100)]
    return "\n".join([*lines, _OF_COMMANDS.rstrip()])
