"""``agentctl sessions shell``: a shell in a session's sandbox, on this terminal."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import Output, is_terminal
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.errors import UsageError
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.ops.own import Ref


@examples("""
    agentctl sessions shell my-work
    agentctl sessions shell my-work --shell "python3 -q"
""")
def shell(
    output: OutputOptions,
    session: Annotated[
        str,
        typer.Argument(
            metavar="[SESSION]",
            help="Name, id, the start of an id, or @last.",
            show_default=False,
        ),
    ] = "@last",
    shell: Annotated[
        str | None, typer.Option("--shell", metavar="COMMAND", help="What to run (default: your shell, bash or sh).")
    ] = None,
) -> int:
    """Open a shell in the session's sandbox and exit with its exit code.

    It ends with this terminal. When the connection breaks it is taken up again where it was.
    """
    return open_shell(session, shell, output.output)


def open_shell(ref: Ref, shell: str | None, out: Output) -> int:
    """A shell in a session's sandbox or in one of its own; returns what to exit with."""
    from agentctl.ops.exec import SHELL, Command

    argv = _argv(shell) if shell else ("/bin/sh", "-c", SHELL)
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise UsageError(
            "A shell needs a terminal, and this is none.",
            hint=f"Run one command: agentctl {_exec_of(ref)} -- COMMAND",
        )

    async def body(interrupts: Interrupts) -> int:
        from agentctl.cli.terminal_view import exec_on_terminal

        with App.open() as app, watched(app, out):
            return await exec_on_terminal(app, ref, Command(argv=argv), out, interrupts)

    return run_async(body)


def _exec_of(ref: Ref) -> str:
    return "sessions exec SESSION" if isinstance(ref, str) else "sandboxes exec SANDBOX"


def _argv(text: str) -> tuple[str, ...]:
    try:
        argv = tuple(shlex.split(text))
    except ValueError:
        raise UsageError(f"--shell {text!r}: the quotes do not match.") from None
    if not argv:
        raise UsageError("--shell names no command.")
    return argv
