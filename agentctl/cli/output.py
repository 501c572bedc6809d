"""Where output goes: results on stdout, the story on stderr, and what ``--json``, ``-q`` and ``--color`` make of both.

Nothing here imports Rich: ``rich_output.py`` is loaded only when stdout is a terminal that understands it.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, Protocol, TextIO

from agentctl.cli.untrusted import clean, clean_json_line
from agentctl.errors import AgentctlError, StateError

ENVELOPE_VERSION = 1
ColorChoice = Literal["auto", "always", "never"]


class DrawnLine(Protocol):
    """A line of progress at the bottom of the terminal (``progress.py``)."""

    def moved(self) -> AbstractContextManager[None]:
        """Have it taken away while something is printed."""

    def end(self) -> None:
        """Take it away for good."""


class Paging(Protocol):
    """Takes what goes to stdout for a pager (``pager.py``)."""

    def write(self, data: bytes) -> None:
        """Raise ``ReaderGone`` when the pager was left."""

    def later(self, text: str) -> bool:
        """Whether it keeps what is meant for stderr until the terminal is free."""


drawn: list[DrawnLine] = []
paging: list[Paging] = []

_STYLES = {"error": "1;31", "warning": "33", "dim": "2", "good": "32", "bad": "31", "bold": "1"}


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
        self.on_step: Callable[[str], None] | None = None
        """Shows a step for as long as it lasts, where that can be seen."""
        self.in_view: Callable[[str], None] | None = None
        """Shows in the live view of a turn how a pull or an install goes on."""

    @property
    def rich(self) -> bool:
        """Whether the terminal view can be drawn on stdout."""
        plain = self.json or self.quiet or os.environ.get("TERM", "dumb") == "dumb"
        return is_terminal(sys.stdout) and not plain

    def story(self, text: str, style: str = "") -> None:
        """One line on stderr for a person who waits; ``-q`` silences it, but no warning: no outcome goes unsaid."""
        if not self.quiet or style in ("warning", "error"):
            write_story(text, style, self.color)

    def step(self, text: str) -> None:
        """Something is begun that the next one, or output, will follow: ``Starting claude …``. Empty: it is over."""
        if self.on_step is not None:
            self.on_step(text)
        elif text:
            self.story(text, "dim")

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
    if paging and paging[-1].later(line + "\n"):
        return
    try:
        with _above():
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
    except (OSError, ValueError):
        return


def _above() -> AbstractContextManager[None]:
    return drawn[-1].moved() if drawn else nullcontext()


class ReaderGone(Exception):
    """Nobody reads stdout any more. Not an ``OSError``: Typer would make exit 1 of it."""


@contextmanager
def written() -> Iterator[None]:
    """Around a write to stdout. Raise ``ReaderGone``, or ``StateError`` for a full disk."""
    while drawn and is_terminal(sys.stdout):
        drawn[-1].end()  # results come: the step is over
    try:
        yield
    except OSError as e:
        if e.errno in (errno.EPIPE, errno.EIO):  # EIO: the terminal was closed
            raise ReaderGone from e
        raise StateError(f"Cannot write the output: {e.strerror}.") from e


def write_text(text: str) -> None:
    """Write to stdout now. Raise as ``written``."""
    if paging:
        paging[-1].write(text.encode("utf-8", "backslashreplace"))
        return
    with written():
        sys.stdout.write(text)
        sys.stdout.flush()


def write_bytes(data: bytes) -> None:
    """Write to stdout as it is, whatever encoding the terminal has. Raise as ``written``."""
    if paging:
        paging[-1].write(data)
        return
    with written():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def write_json(value: Any) -> None:
    """Write one JSON value as one line to stdout."""
    write_lines([json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")])


def write_lines(lines: Iterable[bytes]) -> None:
    """Write lines of JSON to stdout as they are, in one go. Raise as ``written``."""
    block = b"\n".join([*lines, b""])
    if is_terminal(sys.stdout):
        block = clean_json_line(block)
    with written():
        sys.stdout.flush()
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


def show_error(error: AgentctlError, *, as_json: bool, color: ColorChoice = "auto") -> None:
    """What happened, and what helps with the command that does: two lines on stderr, or the envelope on stdout."""
    if as_json:
        write_json({"agentctl": ENVELOPE_VERSION, "status": "error", "data": None, "error": error.to_json()})
        return
    write_story(error.message, "error", color, label="error: ")
    retry = error.details.get("try")
    hint = [error.hint] if error.hint else []
    hint += [f"Try: {retry}"] if isinstance(retry, str) else []
    if hint:
        write_story(" ".join(hint), "dim", color, label="hint: ")
