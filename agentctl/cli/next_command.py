"""The command that helps after an error: the user's own, mended.

An error says what would mend it in its details: ``near`` (or ``nearest``) are the names that the wrong one, which is
among the details too, may stand for; ``add`` are words that were missing; ``first`` is a command to be run before.
"""

from __future__ import annotations

from typing import Any

from agentctl.cli.complete import Line
from agentctl.errors import AgentctlError

TELLING = frozenset(
    ("--env", "-e", "--database-url", "--secret", "--mcp-server", "--build-arg", "--content", "--request-hook")
)
"""Options whose values may hold a secret: a command with one of them is not repeated."""

_LONGEST = 300
_DESTROYING = frozenset(("delete", "rm", "uninstall", "cleanup-orphans"))
"""What these are told to destroy is not guessed."""

_TALKING = {"run": 0, "sessions send-message": 1, "sessions send-message-stream": 1}
"""Commands whose last argument is a message, and how many come before it."""


def next_command(error: AgentctlError, argv: list[str]) -> str | None:
    """What to type next, ready to be pasted; None when that cannot be known."""
    import shlex

    if any(word.split("=")[0] in TELLING for word in argv):
        return None
    mended = _mended(error.details, argv)
    if mended is None:
        return None
    first = error.details.get("first")
    text = f"{first} && " if isinstance(first, str) else ""
    text += shlex.join(["agentctl", *mended])
    return text if len(text) <= _LONGEST and "\n" not in text else None


def _mended(details: dict[str, Any], argv: list[str]) -> list[str] | None:
    if details.get("quote"):
        return _quoted(argv)
    if isinstance(add := details.get("add"), list):
        end = argv.index("--") if "--" in argv else len(argv)
        return [*argv[:end], *map(str, add), *argv[end:]]
    near = details.get("near") or details.get("nearest")
    if isinstance(near, list) and near:
        return _corrected(details, argv, str(near[0]))
    return argv if "first" in details else None


def _corrected(details: dict[str, Any], argv: list[str], right: str) -> list[str] | None:
    """With the wrong word replaced, alone, before or behind a ``=``."""
    from difflib import get_close_matches

    told = [value for value in details.values() if isinstance(value, str) and value != right]
    wrong = next(iter(get_close_matches(right, told, n=1, cutoff=0.3)), None)
    if wrong is None or _DESTROYING & set(argv[:3]):
        return None
    for at, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if word == wrong:
            mended = right
        elif equals and name == wrong:
            mended = f"{right}={value}"
        elif equals and value == wrong:
            mended = f"{name}={right}"
        else:
            continue
        return [*argv[:at], mended, *argv[at + 1 :]]
    return None


def _quoted(argv: list[str]) -> list[str] | None:
    """The words of a message that was not put in quotes as one word."""
    line = Line(argv)
    before = _TALKING.get(line.path)
    if before is None or line.is_literal:
        return None
    rest = list(argv)
    words = line.arguments[before:]
    at = rest.index(words[0])
    for word in words:
        rest.remove(word)
    return [*rest[:at], " ".join(words), *rest[at:]]
