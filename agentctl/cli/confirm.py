"""Asking before something is deleted for good."""

from __future__ import annotations

import sys

import typer

from agentctl.cli.no_input import is_forbidden
from agentctl.cli.output import Output, is_terminal, write_story
from agentctl.errors import UsageError


def confirm(out: Output, what: str, question: str) -> None:
    """Ask on a terminal, and exit 1 for anything but yes; elsewhere ``--yes`` has to be said: raise ``UsageError``.

    Not to be called in an event loop, which could not be interrupted while it asks.
    """
    if is_forbidden() or out.json or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise UsageError(f"Deleting {what} wants a confirmation.", hint="Add --yes.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        write_story("Nothing was deleted.")
        raise typer.Exit(1)
