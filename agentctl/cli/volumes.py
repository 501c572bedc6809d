"""``agentctl volumes``: create, list, get, delete."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli.confirm import IgnoreNotFound, confirm, missing_is_fine
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import Output, write_text
from agentctl.cli.plain_output import print_fields, print_table
from agentctl.cli.running import run_async
from agentctl.errors import VolumeNotFound
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.model import Volume

Json = dict[str, Any]
VolumeName = Annotated[str, typer.Argument(metavar="VOLUME", help="Its name.", show_default=False)]
VolumeProvider = Annotated[
    str | None, typer.Option("--provider", metavar="NAME", help="Whose volume (default: the one that has it).")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
IfNotExists = Annotated[bool, typer.Option("--if-not-exists", help="Be content with the one that is there.")]


@examples("""
    agentctl volumes create models
    agentctl volumes create models --provider docker --if-not-exists
""")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new volume's name.", show_default=False)],
    output: OutputOptions,
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="Where it is made.")] = None,
    if_not_exists: IfNotExists = False,
) -> int:
    """Create a volume. Sessions make theirs themselves: 'sessions create --volume NAME'."""
    from agentctl.ops import volumes as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            made = await ops.create(app, name, provider=provider, if_not_exists=if_not_exists)
            about = ops.to_json(app, made, "ready", ops.users_of(app, made))
        if out.json:
            out.envelope(about)
        else:
            write_text(f"{made.name}\n")

    return run_async(body)


@examples("""
    agentctl volumes list
    agentctl volumes list --provider docker --json
""")
def list_(output: OutputOptions, provider: VolumeProvider = None) -> int:
    """List volumes: of all providers that have any, and of other machines that share the database."""
    from agentctl.ops import volumes as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            found = await ops.listing(app, provider)
        if out.json:
            out.envelope(found)
        elif out.quiet:
            write_text("".join(f"{about['name']}\n" for about in found))
        elif not found:
            out.story("There is no volume yet. The first session makes one, or: agentctl volumes create NAME")
        else:
            rows = [(v["name"], v["provider"], _state(v), _count(v), _day(v["created_at"])) for v in found]
            print_table(out, ("name", "provider", "status", "used by", "created"), rows)

    return run_async(body)


def _state(about: Json) -> str:
    return f"on {about['machine']}" if about["status"] == "elsewhere" else str(about["status"])


def _count(about: Json) -> str:
    parts = [(len(about["sessions"]), "session", "s"), (len(about["sandboxes"]), "sandbox", "es")]
    return ", ".join(f"{count} {word}{plural if count > 1 else ''}" for count, word, plural in parts if count)


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


@examples("""
    agentctl volumes get default
    agentctl volumes get models --provider docker --json
""")
def get(volume: VolumeName, output: OutputOptions, provider: VolumeProvider = None) -> int:
    """Show one volume: who uses it, and its workspaces."""
    from agentctl.ops import volumes as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            about = await ops.details(app, volume, provider)
        if out.json:
            out.envelope(about)
        elif out.quiet:
            write_text(f"{about['name']}\n")
        else:
            plain = [(key, str(about[key] or "")) for key in ("name", "provider", "status", "path")]
            spaces = "unknown" if about["workspaces"] is None else "\n".join(about["workspaces"])
            print_fields([*plain, ("created", _day(about["created_at"])), ("workspaces", spaces), *user_fields(about)])

    return run_async(body)


def user_fields(about: Json) -> list[tuple[str, str]]:
    """Who uses a volume or a workspace, for ``print_fields``."""
    return [(kind, "\n".join(user["name"] for user in about[kind])) for kind in ("sessions", "sandboxes")]


@examples("""
    agentctl volumes delete models
    agentctl volumes delete old-1 old-2 --yes
    agentctl volumes delete default --force --yes
""")
def delete(
    volume: Annotated[
        list[str],
        typer.Argument(metavar="VOLUME...", help="Names.", show_default=False),
    ],
    output: OutputOptions,
    provider: VolumeProvider = None,
    force: Annotated[bool, typer.Option("--force", help="Even while sessions use it; see above.")] = False,
    yes: Yes = False,
    ignore_not_found: IgnoreNotFound = False,
) -> int:
    """Delete volumes with all in them: every HOME, workspace and file. This cannot be undone.

    A volume that sessions use is not deleted, unless --force: it stops their sandboxes first, in the middle of a turn
    if need be. The sessions stay and what was said can still be read, but their agents forget it: the next message
    starts with an empty HOME, and fails with 'context lost' unless told otherwise with --on-lost.
    """
    from agentctl.ops import volumes as ops

    out = output.output
    found: list[Volume] = []
    losers: list[str] = []

    async def look(interrupts: Interrupts) -> None:
        with App.open() as app:
            for name in dict.fromkeys(volume):  # all are found before any is deleted
                with missing_is_fine(ignore_not_found, VolumeNotFound):
                    found.append(await ops.find(app, name, provider))
                    users = ops.require_deletable(app, found[-1], force=force)
                    losers.extend(session.name for session in users.sessions)

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            for one in found:
                await ops.delete(app, one, force=force)
        show_deleted(out, [one.name for one in found], losers)

    if code := run_async(look):
        return code
    if found and not yes:
        names = [one.name for one in found]
        what = f"the volume {names[0]}" if len(names) == 1 else f"{len(names)} volumes"
        confirm(out, what, question(f"Delete {', '.join(names)} with all data?", losers))
    return run_async(body)


def question(text: str, losers: list[str]) -> str:
    """``text`` with what it means for the sessions that use what is to be deleted."""
    return f"{text} It takes HOME and memory from {', '.join(losers)}." if losers else text


def show_deleted(out: Output, names: list[str], losers: list[str]) -> None:
    """What was deleted, and which sessions lost their HOME by it."""
    if out.json:
        out.envelope({"deleted": names, "sessions": losers})
        return
    if losers:
        out.story(f"Without HOME and memory now: {', '.join(losers)}", "warning")
    write_text("".join(f"{name}\n" for name in names))
