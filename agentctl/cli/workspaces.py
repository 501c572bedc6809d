"""``agentctl workspaces``: HOMEs that several sessions share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli.confirm import IgnoreNotFound, confirm, missing_is_fine
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import Output, write_text
from agentctl.cli.plain_output import print_fields, print_table
from agentctl.cli.running import run_async
from agentctl.cli.volumes import IfNotExists, VolumeProvider, Yes, question, show_deleted, user_fields
from agentctl.errors import VolumeNotFound, WorkspaceNotFound
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts

Json = dict[str, Any]
WorkspaceName = Annotated[str, typer.Argument(metavar="WORKSPACE", help="Its name.", show_default=False)]
OnVolume = Annotated[str, typer.Option("--volume", metavar="NAME", help="The volume it is on.")]
OfVolume = Annotated[
    str | None,
    typer.Option("--volume", metavar="NAME", help="Only of this volume."),
]


@examples("""
    agentctl workspaces create shared
    agentctl workspaces create shared --volume team --if-not-exists
""")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new workspace's name.", show_default=False)],
    output: OutputOptions,
    volume: OnVolume = "default",
    provider: VolumeProvider = None,
    if_not_exists: IfNotExists = False,
) -> int:
    """Create an empty workspace, to put files into before a session starts.

    Sessions use it with 'sessions create --workspace NAME', and make one that is not there yet themselves.
    """
    from agentctl.ops import workspaces as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            made = await ops.create(app, name, volume=volume, provider=provider, if_not_exists=if_not_exists)
        if out.json:
            out.envelope(made)
        else:
            write_text(f"{made['name']}\n")

    return run_async(body)


@examples("""
    agentctl workspaces list
    agentctl workspaces list --volume team --json
""")
def list_(output: OutputOptions, volume: OfVolume = None, provider: VolumeProvider = None) -> int:
    """List workspaces and who uses them; 'planned' is one that its first session will make."""
    from agentctl.ops import workspaces as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            found, closed = await ops.listing(app, volume=volume, provider=provider)
        for about in closed:
            where = f"is on {about['machine']}" if about["machine"] else f"is {about['status']}"
            out.story(f"Not looked into: the volume {about['name']} of {about['provider']} {where}.", "dim")
        _show_list(out, found)

    return run_async(body)


def _show_list(out: Output, found: list[Json]) -> None:
    if out.json:
        out.envelope(found)
    elif out.quiet:
        write_text("".join(f"{about['name']}\n" for about in found))
    elif not found:
        out.story("There is no workspace. Create one with: agentctl workspaces create NAME")
    else:
        rows = [(w["name"], w["volume"], w["provider"], w["status"], _users(w)) for w in found]
        print_table(out, ("name", "volume", "provider", "status", "used by"), rows)


def _users(about: Json) -> str:
    return ", ".join(user["name"] for user in (*about["sessions"], *about["sandboxes"]))


@examples("""
    agentctl workspaces get shared
    agentctl workspaces get shared --volume team --json
""")
def get(
    workspace: WorkspaceName, output: OutputOptions, volume: OnVolume = "default", provider: VolumeProvider = None
) -> int:
    """Show one workspace: where its files are, and who uses it."""
    from agentctl.ops import workspaces as ops

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            about = await ops.details(app, workspace, volume=volume, provider=provider)
        if out.json:
            out.envelope(about)
        elif out.quiet:
            write_text(f"{about['name']}\n")
        else:
            plain = [(key, str(about[key])) for key in ("name", "volume", "provider", "status", "path")]
            print_fields([*plain, *user_fields(about)])

    return run_async(body)


@examples("""
    agentctl workspaces delete shared
    agentctl workspaces delete shared --volume team --force --yes
""")
def delete(
    workspace: Annotated[list[str], typer.Argument(metavar="WORKSPACE...", help="Names.", show_default=False)],
    output: OutputOptions,
    volume: OnVolume = "default",
    provider: VolumeProvider = None,
    force: Annotated[bool, typer.Option("--force", help="Even while sessions use it; see above.")] = False,
    yes: Yes = False,
    ignore_not_found: IgnoreNotFound = False,
) -> int:
    """Delete workspaces with all in them. This cannot be undone.

    A workspace that sessions use is not deleted, unless --force: it stops their sandboxes first, in the middle of a
    turn if need be. The sessions stay and what was said can still be read, but their agents forget it: the next
    message starts with an empty HOME, and fails with 'context lost' unless told otherwise with --on-lost.
    """
    from agentctl.ops import workspaces as ops

    out = output.output
    names: list[str] = []
    losers: list[str] = []

    async def look(interrupts: Interrupts) -> None:
        with App.open() as app:
            for name in dict.fromkeys(workspace):  # all are found before any is deleted
                with missing_is_fine(ignore_not_found, WorkspaceNotFound, VolumeNotFound):
                    _, users = await ops.require_deletable(app, name, volume=volume, provider=provider, force=force)
                    names.append(name)
                    losers.extend(session.name for session in users.sessions)

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            for name in names:
                await ops.delete(app, name, volume=volume, provider=provider, force=force)
        show_deleted(out, names, losers)

    if code := run_async(look):
        return code
    if names and not yes:
        what = f"the workspace {names[0]}" if len(names) == 1 else f"{len(names)} workspaces"
        confirm(out, what, question(f"Delete {', '.join(names)} with all data?", losers))
    return run_async(body)
