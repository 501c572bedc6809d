"""What all deleting has in common: asking before something is gone for good, and what was not there at all."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from agentctl.cli.output import Output, is_terminal, write_story
from agentctl.cli.switches import NO_INPUT
from agentctl.errors import NotFound, UsageError

IgnoreNotFound = Annotated[
    bool, typer.Option("--ignore-not-found", help="What is not there need not be deleted: no error, exit 0.")
]


def confirm(out: Output, what: str, question: str) -> None:
    """Ask on a terminal, and exit 1 for anything but yes; elsewhere ``--yes`` has to be said: raise ``UsageError``.

    Not to be called in an event loop, which could not be interrupted while it asks.
    """
    if NO_INPUT.is_forbidden() or out.json or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError(f"Deleting {what} wants a confirmation.", hint="Add --yes.", details={"add": ["--yes"]})
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        write_story("Nothing was deleted.")
        raise typer.Exit(1)


@contextmanager
def missing_is_fine(ignore: bool, *kinds: type[NotFound]) -> Iterator[None]:
    """With ``--ignore-not-found`` an error of these kinds ends the block and no more."""
    try:
        yield
    except kinds:
        if not ignore:
            raise
