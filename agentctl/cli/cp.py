"""``agentctl cp``: between this host, sessions and volumes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import Output, is_terminal, write_text
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.ops.app import App

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentctl.cli.interrupts import Interrupts
    from agentctl.ops.copy import Where

_PATIENCE_S = 0.5
_REDRAW_S = 0.1
_LINE_EVERY_S = 10.0


@examples("""
    agentctl cp report.csv my-work:data/
    agentctl cp -r my-work:dist ./dist
    agentctl cp -r src/. my-work:src
    agentctl cp my-work:model.bin volume:shared/models/model.bin
""")
def cp(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="PATH, SESSION:PATH or volume:NAME/PATH.", show_default=False),
    ],
    target: Annotated[str, typer.Argument(metavar="DST", help="The same.", show_default=False)],
    output: OutputOptions,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Copy a directory with all in it.")] = False,
) -> int:
    """Copy files between this host, sessions and volumes.

    A file goes to DST, or into it where DST is a directory. A directory (-r) becomes DST, or goes into it under its own
    name where that is a directory; 'SRC/.' stands for its content alone. Modes are kept; links inside a directory stay
    links. Write ./a:b for a file of this host with a colon in its name.
    """
    from agentctl.ops.copy import Where

    return run_copy(output.output, Where.parse(source), Where.parse(target), recursive=recursive)


def run_copy(
    out: Output,
    source: Where,
    target: Where,
    *,
    recursive: bool = False,
    told: Callable[[str], str] = lambda written: written,
) -> int:
    """Copy, tell how far it is when it takes a while, and print what was written, as ``told`` puts it."""
    from agentctl.ops.copy import copy

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out), Meter(out) as meter:
            done = await copy(
                app,
                source,
                target,
                recursive=recursive,
                report=lambda step: out.story(step, "dim"),
                progress=meter.moved,
            )
        done["target"] = told(done["target"])
        if out.json:
            out.envelope(done)
        else:
            out.story(f"Copied {size_text(done['bytes'])}.", "dim")
            write_text(f"{done['target']}\n")

    return run_async(body)


class Meter:
    """How far a copy is, on stderr: a line that is redrawn on a terminal, now and then a line elsewhere."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._redraws = is_terminal(sys.stderr) and not out.quiet
        self._next = time.monotonic() + (_PATIENCE_S if self._redraws else _LINE_EVERY_S)
        self._shown = False

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown and self._redraws:
            self._write("\r\x1b[K")

    def moved(self, done: int, whole: int | None) -> None:
        """Called after each chunk."""
        now = time.monotonic()
        if now < self._next:
            return
        line = f"Copied {size_text(done)}" + (f" of {size_text(whole)}" if whole is not None else "") + " …"
        self._shown = True
        if self._redraws:
            self._next = now + _REDRAW_S
            self._write(f"\r{line}\x1b[K")
        else:
            self._next = now + _LINE_EVERY_S
            self._out.story(line, "dim")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._redraws = False  # the terminal is gone; the copy goes on


def size_text(size: int) -> str:
    """``3 bytes``, ``12.3 MB``."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} byte" if size == 1 else f"{size} bytes"
