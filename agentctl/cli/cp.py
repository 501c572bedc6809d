"""``agentctl cp``: between this host, sessions and volumes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import Output, write_text
from agentctl.cli.progress import Progress, watched
from agentctl.cli.running import run_async
from agentctl.cli.sizes import size_text
from agentctl.ops.app import App

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentctl.cli.interrupts import Interrupts
    from agentctl.ops.copy import Where

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
        with App.open() as app, watched(app, out) as progress:
            meter = Meter(progress)
            done = await copy(
                app,
                source,
                target,
                recursive=recursive,
                report=out.step,
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
    """How far a copy is: all the time on a terminal, now and then a line elsewhere."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._next = time.monotonic() + (0 if progress.draws else _LINE_EVERY_S)

    def moved(self, done: int, whole: int | None) -> None:
        """Called after each chunk."""
        if time.monotonic() < self._next:
            return
        if not self._progress.draws:
            self._next = time.monotonic() + _LINE_EVERY_S
        of = f" of {size_text(whole)}" if whole is not None else ""
        self._progress(f"Copied {size_text(done)}{of} …", done, whole)
