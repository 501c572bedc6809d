"""Assignments that a shell can evaluate whatever the value is: it sets exactly that value, and runs nothing."""

from __future__ import annotations

import os
import re

SHELLS = ("bash", "zsh", "fish")
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


def is_name(name: str) -> bool:
    """Whether a program's variable is called like that; nothing else is ever assigned."""
    return _NAME.fullmatch(name) is not None


def assignment(name: str, value: str, shell: str = "bash", *, export: bool = False) -> bytes:
    """One line (a value may hold more of them) for ``eval`` of bash, zsh or any POSIX shell, or for ``source`` of fish.

    Raise ``ValueError`` for a value that no variable can hold.
    """
    assert is_name(name), "checked by whoever asks"
    data = encoded(value)
    if shell == "fish":
        return b"set -g%s %s %s\n" % (b"x" if export else b"", name.encode(), _fish(data))
    return b"%s%s=%s\n" % (b"export " if export else b"", name.encode(), _posix(data))


def encoded(value: str) -> bytes:
    """The bytes of a variable's value. Raise ``ValueError`` for a NUL, and for text that is none."""
    if "\0" in value:
        raise ValueError("it holds a NUL")
    try:
        return os.fsencode(value)
    except UnicodeEncodeError:
        raise ValueError("it is not text") from None


def _posix(data: bytes) -> bytes:
    """Nothing is special within single quotes but their end."""
    return b"'" + data.replace(b"'", b"'\\''") + b"'"


def _fish(data: bytes) -> bytes:
    """Within single quotes of fish a backslash counts before a quote and before itself. What is not plain ASCII is
    written as bytes outside of them, since fish would read some of it as something else."""
    parts = re.split(rb"([^\n\t\x20-\x7e]+)", data)
    return b"".join(
        b"".join(b"\\X%02x" % byte for byte in part) if index % 2 else b"'" + _fish_quoted(part) + b"'"
        for index, part in enumerate(parts)
    )


def _fish_quoted(part: bytes) -> bytes:
    return part.replace(b"\\", b"\\\\").replace(b"'", b"\\'")
