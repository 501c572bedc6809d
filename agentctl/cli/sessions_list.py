"""``agentctl sessions list``. Where no sandbox has to be asked, it is there without an event loop and all that is only
needed to talk to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli import values
from agentctl.cli.lazy import examples
from agentctl.cli.options import Labels, OutputOptions
from agentctl.cli.output import Output, write_text
from agentctl.cli.running import run_async
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.model import Session

STATUSES = ("new", "starting", "idle", "busy", "waiting", "stalled", "paused", "hibernated", "dead")
NEWEST = 50


@examples("""
    agentctl sessions list
    agentctl sessions list --label team=web --status busy --json
    agentctl sessions list -q | xargs agentctl sessions delete --yes
""")
def list_(
    output: OutputOptions,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="Show at most so many.")] = NEWEST,
    everything: Annotated[bool, typer.Option("--all", help="Show all.")] = False,
    label: Labels = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", metavar="STATUS", help="Only these statuses. Repeatable.")
    ] = None,
) -> int:
    """List sessions, the latest first."""
    from agentctl.ops import session_list

    out = output.output
    most = None if everything else limit
    statuses = [values.choice(s, STATUSES, "--status") for s in status or ()]
    labels = values.pairs(label or (), "--label")

    def show(app: App, found: list[Session]) -> None:
        _show_list(out, found, session_list.in_line(app, found), cut=len(found) == most)

    async def body(interrupts: Interrupts) -> None:
        from agentctl.ops import sessions

        with App.open() as app:
            show(app, await sessions.listing(app, limit=most, labels=labels, statuses=statuses))

    with App.open() as app:
        found = session_list.stored(app, limit=most, labels=labels, statuses=statuses)
        if not any(session_list.may_have_changed(app, session) for session in found):
            show(app, session_list.chosen(found, limit=most, statuses=statuses))
            return 0
    return run_async(body)


def _show_list(out: Output, found: list[Session], queued: dict[str, int], *, cut: bool) -> None:
    from agentctl.ops.session_list import to_json

    if out.json:
        out.envelope([{**to_json(s), "queued": queued.get(s.id, 0)} for s in found])
    elif out.quiet:
        write_text("".join(f"{s.id}\n" for s in found))
    elif not found:
        out.story("There is no session. Create one with: agentctl sessions create NAME --agent mock")
    else:
        from agentctl.cli.session_table import print_sessions

        print_sessions(out, found, queued)
        if cut:
            out.story(f"These are the newest {len(found)}; --all shows the rest.", "dim")
