"""Where output goes: results on stdout, the story on stderr, and what ``--json``, ``-q`` and ``--color`` make of both.

Nothing here imports Rich: ``rich_output.py`` is loaded only when stdout is a terminal that understands it.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TextIO

from agentctl.cli.untrusted import clean, clean_json_line
from agentctl.errors import AgentctlError, StateError

ENVELOPE_VERSION = 1
ColorChoice = Literal["auto", "always", "never"]

_STYLES = {"error": "1;31", "warning": "33", "dim": "2", "good": "32", "bold": "1"}


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads (or types) there."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def wants_color(stream: TextIO, choice: ColorChoice = "auto") -> bool:
    """``--color`` first, then ``NO_COLOR``, ``FORCE_COLOR``, ``TERM=dumb``, then whether it is a terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def color_choice(argv: list[str]) -> ColorChoice:
    """What ``--color`` says, for errors that come before the options are parsed."""
    for here, after in zip(argv, [*argv[1:], ""], strict=True):
        value = after if here == "--color" else here.removeprefix("--color=")
        if here.startswith("--color") and value in ("always", "never"):
            return "always" if value == "always" else "never"
    return "auto"


class Output:
    """How one command speaks."""

    def __init__(self, *, json: bool = False, quiet: bool = False, color: ColorChoice = "auto") -> None:
        self.json = json
        self.quiet = quiet
        self.color = color

    @property
    def rich(self) -> bool:
        """Whether the terminal view can be drawn on stdout."""
        plain = self.json or self.quiet or os.environ.get("TERM", "dumb") == "dumb"
        return is_terminal(sys.stdout) and not plain

    def story(self, text: str, style: str = "") -> None:
        """One line on stderr for a person who waits; ``-q`` silences it, but no warning: no outcome goes unsaid."""
        if not self.quiet or style in ("warning", "error"):
            write_story(text, style, self.color)

    def envelope(self, data: Any) -> None:
        """The one JSON object of a command that went well."""
        write_json({"agentctl": ENVELOPE_VERSION, "status": "ok", "data": data, "error": None})


def styled(text: str, style: str, color: bool) -> str:
    """``text`` in one of the few styles that the plain output knows."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if color and style else text


def write_story(text: str, style: str = "", color: ColorChoice = "auto", label: str = "") -> None:
    """Write one cleaned line to stderr, only its ``label`` styled if there is one. Where stderr is gone, so be it."""
    on = wants_color(sys.stderr, color)
    line = styled(label, style, on) + clean(text) if label else styled(clean(text), style, on)
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


class ReaderGone(Exception):
    """Nobody reads stdout any more. Not an ``OSError``: Typer would make exit 1 of it."""


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if e.errno in (errno.EPIPE, errno.EIO):  # EIO: the terminal was closed
            raise ReaderGone from e
        raise StateError(f"Cannot write the output: {e.strerror}.") from e


def write_text(text: str) -> None:
    """Write to stdout now. Raise ``ReaderGone``, or ``StateError`` for a full disk."""
    with _written():
        sys.stdout.write(text)
        sys.stdout.flush()


def write_bytes(data: bytes) -> None:
    """Write to stdout as it is, whatever encoding the terminal has. Raise as ``write_text``."""
    with _written():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def write_json(value: Any) -> None:
    """Write one JSON value as one line to stdout."""
    write_lines([json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")])


def write_lines(lines: Iterable[bytes]) -> None:
    """Write lines of JSON to stdout as they are, in one go. Raise as ``write_text``."""
    block = b"".join(line + b"\n" for line in lines)
    if is_terminal(sys.stdout):
        block = clean_json_line(block)
    with _written():
        sys.stdout.flush()
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


def show_error(error: AgentctlError, *, as_json: bool, color: ColorChoice = "auto") -> None:
    """Two lines on stderr, or the envelope on stdout."""
    if as_json:
        write_json({"agentctl": ENVELOPE_VERSION, "status": "error", "data": None, "error": error.to_json()})
        return
    write_story(error.message, "error", color, label="error: ")
    if error.hint:
        write_story(error.hint, "dim", color, label="hint: ")
