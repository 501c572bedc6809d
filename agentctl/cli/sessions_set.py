"""``agentctl sessions``: change the agent's settings, and speak ACP to it directly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli import values
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions, SessionRef
from agentctl.cli.output import Output, write_json
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.cli.sessions import show_session
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts


@examples("""
    agentctl sessions set-model my-work opus
""")
def set_model(
    session: SessionRef,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="One of the agent's models.", show_default=False)],
    output: OutputOptions,
) -> int:
    """Change the model, now and for what comes."""
    return _configure(session, output.output, model=model)


@examples("""
    agentctl sessions set-mode my-work plan
""")
def set_mode(
    session: SessionRef,
    mode: Annotated[str, typer.Argument(metavar="MODE", help="One of the agent's modes.", show_default=False)],
    output: OutputOptions,
) -> int:
    """Change the agent's mode, now and for what comes."""
    return _configure(session, output.output, mode=mode)


@examples("""
    agentctl sessions set-thought-level my-work high
""")
def set_thought_level(
    session: SessionRef,
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="One of the agent's levels.", show_default=False)],
    output: OutputOptions,
) -> int:
    """Change how hard the agent thinks, now and for what comes."""
    return _configure(session, output.output, thought_level=level)


@examples("""
    agentctl sessions set-option my-work verbosity high
    agentctl sessions set-option my-work web_search true
""")
def set_option(
    session: SessionRef,
    option: Annotated[str, typer.Argument(metavar="ID", help="The option's id.", show_default=False)],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON, or text as it is.", show_default=False)],
    output: OutputOptions,
) -> int:
    """Change one of the agent's own options; 'sessions get --json' lists them."""
    return _configure(session, output.output, option=(option, values.json_or_text(value)))


def _configure(ref: str, out: Output, **change: Any) -> int:
    from agentctl.ops import sessions as ops

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            show_session(out, await ops.configure(app, ref, **change, report=out.step))

    return run_async(body)


@examples("""
    agentctl sessions call my-work session/set_mode '{"modeId": "plan"}'
""")
def call(
    session: SessionRef,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="The ACP method.", show_default=False)],
    output: OutputOptions,
    params: Annotated[
        str, typer.Argument(metavar="PARAMS", help="Its params, a JSON object; sessionId is filled in.")
    ] = "{}",
) -> int:
    """Send one raw ACP request to the agent and print its result."""
    from agentctl.ops import sessions as ops

    out = output.output
    given = values.json_object(params, "PARAMS")

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            result = await ops.call(app, session, method, given, out.step)
        if out.json:
            out.envelope(result)
        else:
            write_json(result)

    return run_async(body)
