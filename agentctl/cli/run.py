"""``agentctl run``: one message in a session that is thrown away, unless it is to be kept."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agentctl.cli.compute_options import ComputeOptions
from agentctl.cli.failed_turn import result_line_on_error
from agentctl.cli.lazy import examples
from agentctl.cli.message import hook_command, message_text, when_busy
from agentctl.cli.options import (
    Editor,
    MessageOptions,
    OutputOptions,
    PresetName,
    PrintConfig,
    SpecFile,
    SpecOptions,
    TurnOptions,
)
from agentctl.cli.project_options import ProjectOptions
from agentctl.cli.running import run_async
from agentctl.cli.setup_options import SetupOptions
from agentctl.errors import UsageError


@examples("""
    agentctl run --agent mock "Hello"
    agentctl run "Why does the build fail?" < build.log
    agentctl run --agent claude --permissions accept-edits "Fix the failing test"
    agentctl run --session my-work "Go on"
    agentctl run --spec session.yaml "Why is it slow?"
    agentctl run --preset review "Look at the last commit"
""")
def run(
    given: SpecOptions,
    setup: SetupOptions,
    machine: ComputeOptions,
    message: MessageOptions,
    turn: TurnOptions,
    project: ProjectOptions,
    output: OutputOptions,
    text: Annotated[
        str | None, typer.Argument(metavar="MESSAGE", help="The message; - reads it from stdin.", show_default=False)
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(
            "--session",
            "-s",
            metavar="NAME",
            help="Use this session; create it where it is missing.",
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the session.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Print the session's name and leave; the session is kept.")
    ] = False,
    spec_file: SpecFile = None,
    preset: PresetName = None,
    editor: Editor = False,
    print_config: PrintConfig = False,
) -> int:
    """Ask an agent one thing and show its answer as it comes.

    The session is deleted afterwards, unless --session, --keep or --detach says otherwise.
    """
    out = output.output
    with result_line_on_error(out, session, streams=not detach) as failed:
        files: list[str] | None = None
        if spec_file is not None or preset is not None or print_config:
            from agentctl.cli.spec_file import Alone, merged

            alone = Alone(file=None)
            bundles = (given, setup, machine, turn, project, alone)
            if merged(spec_file, "run", bundles, out, preset=preset, print_config=print_config):
                return 0
            files = alone.file
        _check(setup, message, session, detach=detach)
        said = message_text(text, message, out, editor=editor)
        from agentctl.cli.run_once import OneMessage

        throw_away = not (session or keep or detach)
        one = OneMessage(out, given, setup, machine, message, turn, files or (), project, throw_away=throw_away)
        return run_async(lambda interrupts: one.go(interrupts, said, session, detach=detach))
    return failed.exit_code


def _check(setup: SetupOptions, message: MessageOptions, session: str | None, *, detach: bool) -> None:
    """What can be told to be wrong before anything is read or started."""
    hook_command(message)
    if any(secret.endswith("=-") for secret in setup.secret or ()) and not sys.stdin.isatty():
        raise UsageError("stdin brings the message here, not a --secret.", hint="Use NAME=@FILE, or NAME alone.")
    if when_busy(message) != "fail" and session is None:
        raise UsageError("--queue and --interrupt need a session that is there already.", hint="Add --session NAME.")
    if detach and message.request_hook is not None:
        raise UsageError("--request-hook is run by a command that watches the turn; --detach leaves at once.")
