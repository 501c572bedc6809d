"""``agentctl sessions``: create, get, update, release, delete."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli import values
from agentctl.cli.compute_options import ComputeOptions
from agentctl.cli.confirm import IgnoreNotFound, confirm, missing_is_fine
from agentctl.cli.lazy import examples
from agentctl.cli.options import (
    NoProvision,
    OutputOptions,
    PresetName,
    PrintConfig,
    SessionRef,
    SpecFile,
    SpecOptions,
    TurnOptions,
)
from agentctl.cli.output import Output, write_text
from agentctl.cli.plain_output import print_fields
from agentctl.cli.progress import watched
from agentctl.cli.project_options import ProjectOptions
from agentctl.cli.running import run_async
from agentctl.cli.setup_options import HomeFile, SetupOptions
from agentctl.cli.spec import session_spec
from agentctl.cli.story import usage_facts
from agentctl.cli.untrusted import one_line
from agentctl.errors import SessionNotFound, UsageError
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.model import Session


@examples("""
    agentctl sessions create my-work --agent claude
    agentctl sessions create --agent mock --permissions deny --no-provision
    agentctl sessions create --agent-command "my-agent --acp" --cwd ~/project
    agentctl sessions create web --spec session.yaml --model gpt-5
    agentctl sessions create web --preset review
    agentctl sessions create web --agent codex --secret GITHUB_TOKEN --skill ./skills/review --pre-start "npm ci"
""")
def create(
    given: SpecOptions,
    setup: SetupOptions,
    machine: ComputeOptions,
    turn: TurnOptions,
    project: ProjectOptions,
    output: OutputOptions,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Its name; one is made up without.", show_default=False)
    ] = None,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="Return the session that is there, if it has the same options.")
    ] = False,
    no_provision: NoProvision = False,
    file: HomeFile = None,
    spec_file: SpecFile = None,
    preset: PresetName = None,
    print_config: PrintConfig = False,
) -> int:
    """Create a session and start its agent."""
    from agentctl.ops import sessions as ops

    out = output.output
    if spec_file is not None or preset is not None or print_config:
        from agentctl.cli.spec_file import Alone, merged

        alone = Alone(file=file)
        bundles = (given, setup, machine, turn, project, alone)
        if merged(spec_file, "sessions create", bundles, out, preset=preset, print_config=print_config):
            return 0
        file = alone.file

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app, watched(app, out):
            spec = session_spec(app, given, setup, machine, turn, out, file or (), project)
            session = await ops.create(
                app,
                spec,
                name=name,
                if_not_exists=if_not_exists,
                provision=not no_provision,
                sure=project.yes,
                report=out.step,
            )
            show_session(out, session)

    return run_async(body)


def show_session(out: Output, session: Session) -> None:
    """What a command that made or changed a session prints: its name."""
    from agentctl.ops import sessions as ops

    if out.json:
        out.envelope(ops.to_json(session))
    else:
        write_text(f"{session.id if out.quiet else session.name}\n")


@examples("""
    agentctl sessions get my-work
    agentctl sessions get @last --json
""")
def get(session: SessionRef, output: OutputOptions) -> int:
    """Show one session, and what its agent says of itself while it is alive."""
    from agentctl.ops import sessions as ops
    from agentctl.ops import turns

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            data = await ops.details(app, session)
            data["queue"] = (data["live"] or {}).get("queue") or turns.in_line(app, ops.get(app, data["id"]))
        if out.json:
            out.envelope(data)
        elif out.quiet:
            write_text(f"{data['id']}\n")
        else:
            print_fields(_fields(data))

    return run_async(body)


def _fields(data: dict[str, Any]) -> list[tuple[str, str]]:
    live = data.get("live") or {}
    plain = ("name", "id", "title", "agent", "status", "provider", "cwd", "permissions", "workspace", "last_outcome")
    fields = [(key.replace("_", " "), str(data.get(key) or "")) for key in plain]
    for key, live_key in (("model", "model"), ("mode", "agentMode"), ("thought_level", "thoughtLevel")):
        fields.append((key.replace("_", " "), str(live.get(live_key) or data.get(key) or "")))
    fields += [
        ("project", _project(data["project"])),
        ("labels", ", ".join(f"{k}={v}" for k, v in data["labels"].items())),
        ("usage", ", ".join(usage_facts(data.get("usage"), data.get("cost")))),
        ("events", str(data["last_sequence"])),
        ("created", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(data["created_at"]))),
        ("waiting", str(len(live.get("requests") or ())) if live.get("requests") else ""),
        ("in line", "\n".join(f"{m['turn_id']}  {one_line(m['text'], 60)}" for m in data["queue"])),
    ]
    return fields


def _project(project: dict[str, Any] | None) -> str:
    return f"{project['path']} ({project['mode']})" if project else ""


@examples("""
    agentctl sessions update my-work --name better-name
    agentctl sessions update my-work --label team=web --unset-label draft
""")
def update(
    session: SessionRef,
    output: OutputOptions,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its new name.")] = None,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="Its new title.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", metavar="K=V", help="Set a label.")] = None,
    unset_label: Annotated[list[str] | None, typer.Option("--unset-label", metavar="K", help="Drop a label.")] = None,
) -> None:
    """Rename a session, or change its labels and title."""
    from agentctl.ops import sessions as ops

    if name is None and title is None and not label and not unset_label:
        raise UsageError("Nothing to change.", hint="Give --name, --title, --label or --unset-label.")
    labels = values.pairs(label or (), "--label")
    with App.open() as app:
        changed = ops.update(app, session, name=name, title=title, labels=labels, unset_labels=unset_label or ())
    show_session(output.output, changed)


@examples("""
    agentctl sessions release my-work
""")
def release(session: SessionRef, output: OutputOptions) -> int:
    """Stop a session's sandbox and keep everything: the next message resumes it."""
    from agentctl.ops import session_end

    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            show_session(out, await session_end.release(app, session))

    return run_async(body)


@examples("""
    agentctl sessions delete my-work
    agentctl sessions delete old-1 old-2 --yes
""")
def delete(
    session: Annotated[
        list[str],
        typer.Argument(
            metavar="SESSION...",
            help="Names, ids or starts of ids.",
            show_default=False,
        ),
    ],
    output: OutputOptions,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Do not ask, and lose changes in a worktree that nobody brought back.")
    ] = False,
    ignore_not_found: IgnoreNotFound = False,
) -> int:
    """Delete sessions with their log, home and history. This cannot be undone.

    One whose worktree has changes that nobody brought back by 'sessions pull' is only deleted with --force.
    """
    from agentctl.ops import session_end
    from agentctl.ops import sessions as ops

    out = output.output
    found = []
    with App.open() as app:
        for ref in session:  # all are found before any is deleted
            with missing_is_fine(ignore_not_found, SessionNotFound):
                found.append(ops.get(app, ref))
    if found and not yes and not force:
        names = [s.name for s in found]
        what = names[0] if len(names) == 1 else f"{len(names)} sessions"
        confirm(out, what, f"Delete {', '.join(names)} with all data?")

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            for one in found:
                await session_end.delete(app, one.id, discard=force, only_pulled=not force)
        if out.json:
            out.envelope({"deleted": [s.id for s in found]})
        else:
            write_text("".join(f"{s.id if out.quiet else s.name}\n" for s in found))

    return run_async(body)
