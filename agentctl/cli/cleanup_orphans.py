"""``agentctl cleanup-orphans``: what sandboxes left behind, found and deleted; made for cron."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli import values
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import Output, write_text
from agentctl.cli.running import run_async
from agentctl.cli.sizes import size_text
from agentctl.cli.untrusted import one_line
from agentctl.errors import SandboxError, UsageError
from agentctl.ops.app import App

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentctl.cli.interrupts import Interrupts
    from agentctl.ops.orphans import Orphan, Sweep

Json = dict[str, Any]
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))


@examples("""
    agentctl cleanup-orphans
    agentctl cleanup-orphans --provider docker --older-than 6h
    agentctl cleanup-orphans --yes --quiet
    17 4 * * * agentctl cleanup-orphans --yes --quiet
    systemd-run --user --on-calendar=daily --unit=agentctl-cleanup agentctl cleanup-orphans --yes --quiet
""")
def cleanup_orphans(
    output: OutputOptions,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            "--provider",
            metavar="NAME",
            help="Only there (default: wherever there may be some). Repeatable.",
        ),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option("--origin", metavar="NAME", help="Only what this origin made (default: the configured one)."),
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than",
            metavar="TIME",
            parser=values.duration,
            help="Only what was made, and last active, so long ago (default: 24h; 2h at most for what failed).",
        ),
    ] = None,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Also volumes that no session uses, with all in them.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be deleted: the default without --yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete.")] = False,
) -> int:
    """Find what sandboxes left that no session wants any more, and delete it with --yes.

    Sandboxes, containers, networks, processes, sockets and volumes that bear this installation's origin, that are in no
    store and that are old. What is in use, or may be, is left alone and said; volumes are only listed without
    --volumes. Exit 0 when nothing failed, 8 when something could not be deleted, 10 while another cleanup runs.
    """
    from agentctl.ops import orphans as ops

    if dry_run and yes:
        raise UsageError("--dry-run and --yes say the opposite.", hint="Leave one out.")
    out = output.output

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            wanted = ops.Sweep(
                origin=app.origin if origin is None else origin,
                providers=tuple(dict.fromkeys(provider or ())),
                older_than_s=ops.OLDER_THAN_S if older_than is None else older_than,
                volumes=volumes,
                delete=yes,
            )
            found = await ops.sweep(app, wanted, lambda orphan: _tell(out, orphan))
        _sum_up(out, wanted, found)

    return run_async(body)


def _tell(out: Output, orphan: Orphan) -> None:
    if out.json or (out.quiet and orphan.action != "failed"):
        return
    age = "unknown age" if orphan.age_s is None else f"{_short(orphan.age_s)} old"
    belongs = orphan.session_id or orphan.sandbox_id
    of = f" of {belongs}" if belongs and belongs not in orphan.id else ""
    by = f", by {orphan.owner}" if orphan.owner else ""
    reason = f": {orphan.reason}" if orphan.reason else ""
    size = f", {size_text(orphan.size_bytes)}" if orphan.size_bytes else ""
    line = (
        f"{orphan.action}: {orphan.provider} {orphan.kind} {orphan.id}{of} ({orphan.status}, {age}{size}{by}){reason}"
    )
    if orphan.action == "failed":
        out.story(one_line(line, 400), "warning")
    else:
        write_text(one_line(line, 400) + "\n")


def _short(age_s: float) -> str:
    return next((f"{int(age_s // unit)}{name}" for unit, name in _UNITS if age_s >= unit), f"{int(age_s)}s")


def _sum_up(out: Output, wanted: Sweep, found: Sequence[Orphan]) -> None:
    """The one line for cron's mail, or the envelope; raises ``SandboxError`` when a deletion failed."""
    from agentctl.ops.orphans import counted, freed

    counts = counted(found)
    free, all_of_it = freed(found)
    data = {
        "origin": wanted.origin,
        "dry_run": not wanted.delete,
        "older_than_s": wanted.older_than_s,
        "counts": {action.replace(" ", "_"): count for action, count in counts.items()},
        "freed_bytes": free,
        "orphans": [asdict(orphan) | {"action": orphan.action.replace(" ", "_")} for orphan in found],
    }
    summary = ", ".join(f"{count} {action}" for action, count in counts.items() if count) or "nothing to do"
    if counts["failed"]:
        raise SandboxError(
            f"{counts['failed']} of {len(found)} could not be deleted ({summary}).",
            hint="Run it again; what failed is said above." if not out.json else None,
            details=data,
        )
    if out.json:
        out.envelope(data)
        return
    more = "" if wanted.delete or not counts["would delete"] else " Delete with --yes."
    if free:
        least = "" if all_of_it else "at least "
        summary += f"; {least}{size_text(free)} {'freed' if wanted.delete else 'to be freed'}"
    write_text(f"Orphans of origin {wanted.origin}: {summary}.{more}\n")
