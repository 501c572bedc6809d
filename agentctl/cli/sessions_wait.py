"""``agentctl sessions``: wait for what comes, and bring a sleeping session up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli import values
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions, SessionRef
from agentctl.cli.output import ENVELOPE_VERSION, Output, show_error, write_json, write_text
from agentctl.cli.progress import watched
from agentctl.cli.running import run_async
from agentctl.cli.secrets import values_given
from agentctl.cli.sessions import show_session
from agentctl.cli.setup_options import Secret
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.ops.waiting import Waited

WAIT_FOR = ("idle", "turn-ended", "request")


def _wait_for(text: str) -> str:
    return values.choice(text, WAIT_FOR, "--for")


@examples("""
    agentctl sessions wait my-work
    agentctl sessions wait my-work --for turn-ended --timeout 10m --json
    agentctl sessions wait my-work --for request && agentctl sessions answer my-work
""")
def wait(
    session: SessionRef,
    output: OutputOptions,
    wait_for: Annotated[
        str,
        typer.Option(
            "--for", metavar="WHAT", parser=_wait_for, help="idle, turn-ended, or request (a question that waits)."
        ),
    ] = "idle",
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="TIME", parser=values.duration, help="Give up after this long (exit 3)."),
    ] = None,
    turn: Annotated[
        str | None, typer.Option("--turn", metavar="ID", help="The turn whose end is meant; else the latest.")
    ] = None,
) -> int:
    """Wait until a session is idle, a turn of it has ended, or its agent asks something."""
    from agentctl.errors import UsageError
    from agentctl.ops import waiting

    out = output.output
    if turn is not None and wait_for != "turn-ended":
        raise UsageError("--turn belongs to --for turn-ended.", hint="Add --for turn-ended.")

    async def body(interrupts: Interrupts) -> int:
        with App.open() as app, watched(app, out):
            waited = await waiting.wait(app, session, wait_for, turn_id=turn, timeout_s=timeout)  # type: ignore[arg-type]  # _wait_for saw to it
        _show(out, waited)
        return waited.error.exit_code if waited.error else 0

    return run_async(body)


def _show(out: Output, waited: Waited) -> None:
    """On stdout: the session's name, the turn's outcome, or the ids of what waits for an answer."""
    error = waited.error
    if out.json:
        said = {"status": "error" if error else "ok", "data": waited.to_json()}
        write_json({"agentctl": ENVELOPE_VERSION, **said, "error": error.to_json() if error else None})
        return
    words = {
        "idle": [waited.session.id if out.quiet else waited.session.name],
        "turn-ended": [str(waited.turn_id if out.quiet else waited.outcome)],
        "request": waited.requests,
    }
    if error is None:
        write_text("".join(f"{word}\n" for word in words[waited.wait_for]))
    else:
        if waited.outcome is not None:
            write_text(f"{waited.outcome}\n")
        show_error(error, as_json=False, color=out.color)


@examples("""
    agentctl sessions resume my-work
    pass show deploy-key | agentctl sessions resume my-work --secret DEPLOY_KEY=-
""")
def resume(session: SessionRef, output: OutputOptions, secret: Secret = None) -> int:
    """Bring a session's sandbox and agent up now, so that the next message does not wait for them."""
    from agentctl.ops import sessions as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            if secret:
                app.given_secrets.update(values_given(secret, app.environ))
            show_session(out, await ops.resume(app, session, out.step))

    return run_async(body)
