"""``agentctl sessions``: what agents wait to be told, and telling them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli import requests_text as words
from agentctl.cli import values
from agentctl.cli.lazy import examples
from agentctl.cli.message import can_ask
from agentctl.cli.options import OutputOptions, RequestHook, SessionRef
from agentctl.cli.output import Output, write_text
from agentctl.cli.plain_output import print_table
from agentctl.cli.running import run_async
from agentctl.cli.session_table import age
from agentctl.errors import RequestNotFound, UsageError
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.cli.prompts import Answer
    from agentctl.cli.request_hook import HookAnswer
    from agentctl.model import Request

REPLIES = ("once", "always", "reject")


def _reply(text: str) -> str:
    return values.choice(text, REPLIES, "--reply")


@examples("""
    agentctl sessions requests
    agentctl sessions requests my-work --json
""")
def requests(
    output: OutputOptions,
    session: Annotated[
        str | None,
        typer.Argument(metavar="SESSION", help="Only of this session.", show_default=False),
    ] = None,
) -> int:
    """List what agents are waiting to be told."""
    from agentctl.ops import sessions, turns

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            found = await turns.requests(app, session)
            names = {r.session_id: sessions.get(app, r.session_id).name for r in found}
        _show(out, found, names)

    return run_async(body)


def _show(out: Output, found: list[Request], names: dict[str, str]) -> None:
    if out.json:
        out.envelope([request_json(r, names[r.session_id]) for r in found])
    elif out.quiet:
        write_text("".join(f"{r.id}\n" for r in found))
    elif not found:
        out.story("Nobody waits for an answer.")
    else:
        now = time.time()
        rows = [(names[r.session_id], r.id, r.kind, age(now - r.created_at), words.title_of(r.data)) for r in found]
        print_table(out, ("session", "request", "kind", "asked", "what"), rows)
        out.story(f"Answer with: {words.how_to_answer(names[found[0].session_id], found[0].data)}", "dim")


def request_json(request: Request, session: str) -> dict[str, Any]:
    """A request as ``--json`` shows it."""
    from dataclasses import asdict

    return {**asdict(request), "session": session}


@examples("""
    agentctl sessions answer my-work
    agentctl sessions answer my-work --reply once
    agentctl sessions answer my-work req_1 --reply reject
    agentctl sessions answer my-work req_2 --content '{"branch": "main"}'
    agentctl sessions answer my-work --request-hook ./policy.py
""")
def answer(
    session: SessionRef,
    output: OutputOptions,
    request: Annotated[
        str | None,
        typer.Argument(metavar="REQUEST", help="Its id; not needed where only one waits.", show_default=False),
    ] = None,
    reply: Annotated[
        str | None,
        typer.Option("--reply", "-r", metavar="REPLY", parser=_reply, help="once, always or reject."),
    ] = None,
    option: Annotated[
        str | None, typer.Option("--option", metavar="ID", help="One of the options that the agent offers.")
    ] = None,
    content: Annotated[
        str | None, typer.Option("--content", metavar="JSON", help="The fields of a question's answer.")
    ] = None,
    request_hook: RequestHook = None,
) -> int:
    """Answer a permission request or a question; on a terminal it is shown and asked, unless a hook knows."""
    from agentctl.ops import sessions, turns

    out = output.output
    given = [v for v in (reply, option, content) if v is not None]
    if len(given) > 1:
        raise UsageError("The answer is given twice.", hint="Give --reply, --option or --content: one of them.")
    if not given and request_hook is None and not can_ask():
        raise UsageError("What is the answer?", hint="Give --reply once|always|reject, --option ID or --content JSON.")
    fields = values.json_object(content, "--content") if content is not None else None

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            said: dict[str, Any] = {"reply": reply, "option_id": option, "content": fields}
            chosen = request
            if not given:
                chosen, said = await _asked(app, session, request, out, request_hook)
            done = await turns.answer(app, session, chosen, **said)
            name = sessions.get(app, session).name
        if out.json:
            out.envelope(request_json(done, name))
        else:
            write_text(f"{done.id}\n")

    return run_async(body)


async def _asked(
    app: App, ref: str, request_id: str | None, out: Output, hook: str | None
) -> tuple[str, dict[str, Any]]:
    """What the hook says to the request, else the person."""
    from agentctl.ops import turns

    waiting = [r for r in await turns.requests(app, ref) if request_id in (None, r.id)]
    if not waiting:
        raise RequestNotFound("No such request waits.", hint=f"See agentctl sessions requests {ref}")
    hooked = await _hook_says(app, waiting[0], hook) if hook is not None else None
    answer: HookAnswer | Answer = hooked or await _person_says(waiting[0], out)
    out.story(f"→ {answer.said}", "dim")
    return waiting[0].id, {"reply": answer.reply, "option_id": answer.option_id, "content": answer.content}


async def _hook_says(app: App, request: Request, hook: str) -> HookAnswer | None:
    from agentctl.cli.request_hook import HookFailed, ask_hook, command_of
    from agentctl.ops.turn_stream import stored

    [event] = next(stored(app, request.session_id, request.sequence - 1, limit=1))
    try:
        answer = await ask_hook(command_of(hook), event.body, request.data)
    except HookFailed as e:
        raise UsageError(str(e)) from e
    if answer is None and not can_ask():
        raise UsageError("The request hook leaves the request open; it goes on waiting.")
    return answer


async def _person_says(request: Request, out: Output) -> Answer:
    from agentctl.cli.keyboard import KeyboardGone
    from agentctl.cli.prompts import ask

    try:
        return await ask(request.data, out)
    except KeyboardGone as e:
        raise UsageError("No answer was given; the request goes on waiting.") from e
