"""Reading shell commands, for permission patterns: what could run, without running or expanding anything."""

from __future__ import annotations

import re
import shlex
from typing import Any

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
# A word ends at blank, newline or operator, and at no other white space: to a shell "1\r" is a file name.
_HARMLESS_REDIRECT = re.compile(r"(?:\d*>&\d|(?:\d*|&)>>?[ \t]*/dev/null)(?=\Z|[ \t\n;&|])")
_SEPARATORS = ";&|\n"
_ANY_BOUNDARY = re.compile(r"[;&|\n(){}`]|\$\(|[<>]\(")


def command_of(raw_input: Any) -> str | None:
    """The command in a tool's ``rawInput`` (``command`` or ``cmd``, a string or an argv list), else ``None``.

    ``["bash", "-lc", "ls"]`` is the command ``ls``.
    """
    if not isinstance(raw_input, dict):
        return None
    value = raw_input.get("command", raw_input.get("cmd"))
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        return None
    if len(value) == 3 and value[0].rpartition("/")[2] in _SHELLS and re.fullmatch(r"-[a-z]*c", value[1]):
        return str(value[2])
    return shlex.join(value)


def simple_commands(command: str) -> list[str] | None:
    """The simple commands of a list such as ``a && b; c | d``, each as written; ``None`` if it may do more than that.

    More: substitutions, subshells, redirections (except to ``/dev/null`` and between descriptors), here-documents,
    comments, ``$'…'`` quoting, open quotes. Split by the rules of POSIX sh, so that an ``allow`` pattern which matches
    every part has seen everything that runs.
    """
    parts: list[str] = []
    start = at = 0
    while at < len(command):
        char = command[at]
        if char == "\\":
            at += 2
        elif char == "'":
            at = command.find("'", at + 1) + 1
            if not at:
                return None
        elif char == '"':
            after = _end_of_double_quotes(command, at + 1)
            if after is None:
                return None
            at = after
        elif redirect := _HARMLESS_REDIRECT.match(command, at):
            at = redirect.end()
        elif char in _SEPARATORS:
            parts.append(command[start:at])
            at += 1
            start = at
        elif _does_more(command, at):
            return None
        else:
            at += 1
    parts.append(command[start:])
    return [part.strip(" \t") for part in parts if part.strip(" \t")]


def possible_commands(command: str) -> list[str]:
    """The whole command and everything in it that might run, quotes ignored: too many rather than too few."""
    found = [part.strip(" \t\"'") for part in _ANY_BOUNDARY.split(command)]
    return [command.strip(), *(part for part in found if part)]


def _end_of_double_quotes(command: str, at: int) -> int | None:
    while at < len(command):
        char = command[at]
        if char == '"':
            return at + 1
        if char == "`" or command.startswith("$(", at):
            return None
        at += 2 if char == "\\" else 1
    return None


def _does_more(command: str, at: int) -> bool:
    char = command[at]
    if char == "$":
        return command[at + 1 : at + 2] in ("(", "'", '"')
    if char == "#":
        return at == 0 or command[at - 1] in " \t" + _SEPARATORS
    if char == "<":
        return command[at + 1 : at + 2] in ("<", "(")
    return char in "`()>\0"
