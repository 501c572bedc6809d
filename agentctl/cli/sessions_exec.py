"""``agentctl sessions exec``: one command in a session's sandbox, as if it ran here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli import values
from agentctl.cli.lazy import examples, options
from agentctl.cli.options import OutputOptions, SessionRef
from agentctl.cli.output import Output, is_terminal, write_text
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.errors import UsageError
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.ops.exec import Command
    from agentctl.ops.own import Ref


@options
class ExecOptions:
    """How a command is run in a sandbox."""

    interactive: Annotated[
        bool,
        typer.Option(
            "--interactive", "-i", help="Let it have input: the keyboard, or with -d what comes by 'processes input'."
        ),
    ] = False
    tty: Annotated[bool, typer.Option("--tty", "-t", help="Give the command a terminal: this one.")] = False
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="K=V", help="A variable; K alone takes its value from here. Repeatable."),
    ] = None
    cwd: Annotated[
        str | None, typer.Option("--cwd", metavar="DIR", help="Where to run it (default: the sandbox's directory).")
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="TIME", parser=values.duration, help="End it after this long; exit 124."),
    ] = None
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it, print its id, leave it running.")] = False
    exec_id: Annotated[
        str | None,
        typer.Option("--exec-id", metavar="ID", help="Your id: the same command under it is started only once."),
    ] = None


CommandWords = Annotated[
    list[str], typer.Argument(metavar="-- COMMAND [ARG]…", help="The command, after --.", show_default=False)
]


@examples("""
    agentctl sessions exec my-work -- git status
    tar c src | agentctl sessions exec my-work -- tar x
    agentctl sessions exec -it my-work -- vim README.md
    agentctl sessions exec my-work --detach --exec-id build-1 -- make all
""")
def exec_(session: SessionRef, given: ExecOptions, output: OutputOptions, command: CommandWords) -> int:
    """Run a command in the session's sandbox and exit with its exit code.

    Killed by a signal it is 128 + its number, 127 when the command is not found, 125 when agentctl itself failed.
    What is piped in goes to its stdin. Ctrl-C ends it with all that it started.
    """
    return execute(session, given, command, output.output)


def execute(ref: Ref, given: ExecOptions, command: list[str], out: Output) -> int:
    """Run it in a session's sandbox or in one of its own, and return what to exit with."""
    from agentctl.ops.exec import Command

    _check(tty=given.tty, detach=given.detach, json=out.json)
    asked = Command(
        argv=tuple(command),
        cwd=given.cwd,
        env=values.environment(given.env or ()),
        timeout_s=given.timeout,
        exec_id=given.exec_id,
        attach=not given.detach,
        interactive=given.interactive or (not given.detach and _is_piped()),
    )

    async def body(interrupts: Interrupts) -> int:
        with App.open() as app, watched(app, out):
            if given.tty:
                from agentctl.cli.terminal_view import exec_on_terminal

                return await exec_on_terminal(app, ref, asked, out, interrupts)
            if given.detach:
                return await _detached(app, ref, asked, out)
            from agentctl.cli.exec_streams import exec_here

            return await exec_here(app, ref, asked, out, interrupts)

    return run_async(body)


def _check(*, tty: bool, detach: bool, json: bool) -> None:
    if tty and (detach or json):
        raise UsageError(f"-t cannot go with {'--detach' if detach else '--json'}.")
    if tty and not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise UsageError("-t needs a terminal, and this is none.", hint="Leave -t out: the command then gets pipes.")


def _is_piped() -> bool:
    """Whether a pipe or a file is on stdin; a terminal, a socket or /dev/null brings nothing."""
    import os
    import stat

    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # closed, or no stdin at all
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


async def _detached(app: App, ref: Ref, asked: Command, out: Output) -> int:
    from agentctl.ops import exec as ops

    async with ops.started(app, ref, asked, out.step) as started:
        if out.json:
            out.envelope(started.info)
        else:
            write_text(f"{started.id}\n")
            name = started.session.name
            read = f"sessions processes logs {name}" if isinstance(ref, str) else f"sandboxes logs {name} --exec"
            out.story(f"Read it with: agentctl {read} {started.id} -f", "dim")
    return 0
