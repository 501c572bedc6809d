"""``agentctl sessions``: send a message, and cancel what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli.failed_turn import result_line_on_error
from agentctl.cli.lazy import examples
from agentctl.cli.message import build_message, can_ask, hook_command, message_text, only_watched, when_busy
from agentctl.cli.options import EditorShort, MessageOptions, OutputOptions, SessionRef, TurnOptions
from agentctl.cli.output import Output, write_text
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts

Text = Annotated[
    str | None, typer.Argument(metavar="TEXT", help="The message; - reads it from stdin.", show_default=False)
]


@examples("""
    agentctl sessions send my-work "Run the tests"
    git diff | agentctl sessions send my-work "Review this change" --json
    agentctl sessions send my-work -f prompt.md --no-wait --queue
""")
def send_message(
    session: SessionRef,
    given: MessageOptions,
    turn: TurnOptions,
    output: OutputOptions,
    text: Text = None,
    editor: EditorShort = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the turn's id and leave.")] = False,
) -> int:
    """Send a message, wait for the turn's end and print the final text."""
    if no_wait:
        return _submit(session, text, given, turn, output.output, editor=editor)
    return _send(session, text, given, turn, output.output, streams=False, editor=editor)


@examples("""
    agentctl sessions stream my-work "Fix the failing test"
    agentctl sessions stream my-work "Explain" --attach screenshot.png
    agentctl sessions stream @last --editor
    agentctl sessions stream my-work "No, the other file" --interrupt
    agentctl sessions stream my-work "Go on" --json | jq -r 'select(.type == "result").outcome'
""")
def send_message_stream(
    session: SessionRef,
    given: MessageOptions,
    turn: TurnOptions,
    output: OutputOptions,
    text: Text = None,
    editor: EditorShort = False,
) -> int:
    """Send a message and show the turn as it happens."""
    return _send(session, text, given, turn, output.output, streams=True, editor=editor)


def _send(
    ref: str,
    text: str | None,
    given: MessageOptions,
    turn: TurnOptions,
    out: Output,
    *,
    streams: bool,
    editor: bool,
) -> int:
    from agentctl.cli.turn_driver import drive, watcher
    from agentctl.ops import sessions

    async def body(interrupts: Interrupts) -> int:
        with App.open() as app, watched(app, out):
            session = sessions.get(app, ref)
            attended = can_ask()
            message = build_message(said, given, turn, session, attended=attended)
            watch = watcher(out, streams=streams)
            return await drive(app, session, message, watch, out, interrupts, attended=attended, hook=hook)

    with result_line_on_error(out, ref, streams=streams) as failed:
        hook = hook_command(given)
        when_busy(given)
        said = message_text(text, given, out, editor=editor)
        return run_async(body)
    return failed.exit_code


def _submit(ref: str, text: str | None, given: MessageOptions, turn: TurnOptions, out: Output, *, editor: bool) -> int:
    from agentctl.ops import sessions, turns

    only_watched("--no-wait", given, turn)
    when_busy(given)
    said = message_text(text, given, out, editor=editor)

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            session = sessions.get(app, ref)
            message = build_message(said, given, turn, session, attended=False, watched=False)
            sent = await turns.send(app, session.id, message, out.step)
        if out.json:
            out.envelope({"session_id": session.id, "session": session.name, **sent})
            return
        write_text(f"{sent['turn_id']}\n")
        if sent["position"]:
            out.story(f"It is number {sent['position']} in line.", "dim")

    return run_async(body)


@examples("""
    agentctl sessions cancel my-work
    agentctl sessions cancel my-work --turn trn_01abc
    agentctl sessions cancel my-work --kill
""")
def cancel(
    session: SessionRef,
    output: OutputOptions,
    turn: Annotated[str | None, typer.Option("--turn", metavar="ID", help="This one, running or in line.")] = None,
    kill: Annotated[bool, typer.Option("--kill", help="Kill the agent rather than ask it.")] = False,
) -> int:
    """Cancel the running turn, or one that waits in line."""
    from agentctl.ops import turns

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            done = await turns.cancel(app, session, turn_id=turn, kill=kill)
        if out.json:
            out.envelope(done)
        elif done["cancelled"]:
            write_text(f"{done['turn_id']}\n")
        else:
            out.story("No turn is running." if turn is None else f"The turn {turn} neither runs nor waits in line.")

    return run_async(body)
