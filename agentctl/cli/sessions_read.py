"""``agentctl sessions``: the events and the conversation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli import story, values
from agentctl.cli.lazy import examples
from agentctl.cli.options import NoPager, OutputOptions, SessionRef
from agentctl.cli.output import Output, write_lines, write_text
from agentctl.cli.pager import paged
from agentctl.cli.running import run_async
from agentctl.cli.untrusted import one_line
from agentctl.events import Event
from agentctl.ops.app import App

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentctl.cli.interrupts import Interrupts
    from agentctl.cli.view import View
    from agentctl.model import Session

FORMATS = ("markdown", "jsonl")


@examples("""
    agentctl sessions events my-work --follow
    agentctl sessions events my-work --offset 120 --limit 50 --json
    agentctl sessions events my-work --json --include-raw | jq .raw
""")
def events(
    session: SessionRef,
    output: OutputOptions,
    offset: Annotated[int, typer.Option("--offset", metavar="N", min=0, help="Only events after number N.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes; Ctrl-C detaches.")] = False,
    include_raw: Annotated[bool, typer.Option("--include-raw", help="Add the agent's own ACP frames.")] = False,
    no_pager: NoPager = False,
) -> int:
    """Print a session's events, a line each."""
    from agentctl.ops import turns

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            try:
                pages = turns.events(app, session, offset=offset, limit=limit, follow=follow, include_raw=include_raw)
                async for batch in pages:
                    _print_events(out, batch, include_raw)
            finally:
                if interrupts.code is not None:
                    _say_detached(app, session, out)

    with paged(out, unless=follow):
        return run_async(body)


def _print_events(out: Output, batch: list[Event], include_raw: bool) -> None:
    if out.json:
        write_lines(_with_raw(event) if include_raw else event.line for event in batch)
    elif out.quiet:
        write_text("".join(f"{event.sequence}\n" for event in batch))
    else:
        write_text("".join(_event_line(event) + "\n" for event in batch))


def _with_raw(event: Event) -> bytes:
    return json.dumps(event.body, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _event_line(event: Event) -> str:
    return f"{event.sequence:>6}  {event.body['time'][11:23]}  {event.type:<20}  {_summary(event)}".rstrip()


def _summary(event: Event) -> str:
    data = event.data
    if event.type == "item.delta":
        return one_line(f"{data['item_id']} {data['delta']!r}", 100)
    if "item" in data:
        item = data["item"]
        text = story.tool_title(item) if item["kind"] == "tool_call" else story.output_of(item)
        return one_line(f"{item['item_id']} {item['kind']} {item['status']} {text}", 100)
    return one_line(json.dumps(data, ensure_ascii=False), 100)


def _say_detached(app: App, ref: str, out: Output) -> None:
    from agentctl.ops import sessions

    session = sessions.get(app, ref)
    goes_on = "The turn goes on. " if session.status in ("busy", "waiting") else ""
    out.story(f"\nDetached. {goes_on}Follow it with: agentctl sessions events {session.name} --follow", "dim")


@examples("""
    agentctl sessions transcript my-work
    agentctl sessions transcript my-work > conversation.md
    agentctl sessions transcript my-work --format jsonl | jq -r 'select(.type == "turn").turn.outcome'
""")
def transcript(
    session: SessionRef,
    output: OutputOptions,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="markdown (the default, drawn on a terminal), or jsonl: a line of JSON for each message, tool,"
            " permission and turn.",
        ),
    ] = None,
    no_pager: NoPager = False,
) -> int:
    """Print the conversation so far: messages, thoughts, what tools did, who allowed it, how turns ended."""
    from agentctl.cli import retell
    from agentctl.ops import sessions, turns

    out = output.output
    wanted = format_ and values.choice(format_, FORMATS, "--format")

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            if wanted == "jsonl":
                async for batch in turns.events(app, session):
                    write_lines(retell.lines(batch))
            elif out.json:
                out.envelope(await turns.transcript(app, session))
            else:
                view = _transcript_view(out, sessions.get(app, session), drawn=wanted is None and out.rich)
                await _retell(view, turns.events(app, session))

    with paged(out, unless=wanted == "jsonl"):
        return run_async(body)


def _transcript_view(out: Output, session: Session, *, drawn: bool) -> View:
    if drawn:
        from agentctl.cli.rich_output import RichView

        return RichView(out, live=False)
    from agentctl.cli.markdown_transcript import MarkdownTranscript

    return MarkdownTranscript(session.title or session.name, session.spec.user_agent or session.spec.agent)


async def _retell(view: View, pages: AsyncIterator[list[Event]]) -> None:
    from agentctl.cli.retell import Reteller

    teller = Reteller(view)
    try:
        async for batch in pages:
            teller.feed(batch)
    finally:
        view.close()
