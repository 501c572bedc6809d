"""``agentctl sessions usage``: tokens and cost, as far as the agents told them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from agentctl.cli import values
from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import write_text
from agentctl.cli.running import run_async
from agentctl.cli.story import money
from agentctl.ops.app import App
from agentctl.ops.usage import By

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.cli.output import Output

Json = dict[str, Any]
_COUNTS = ("input_tokens", "output_tokens", "cached_read_tokens")
UNKNOWN = "-"


@examples("""
    agentctl sessions usage
    agentctl sessions usage my-work --by turn
    agentctl sessions usage --by day --since 168h --json
""")
def usage(
    output: OutputOptions,
    session: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SESSION]...",
            help="Names, ids or starts of ids; all sessions without.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="WHAT", help="A row for each session, turn, agent, provider or day.")
    ] = "session",
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only turns that ended so long ago, or later: 24h.")
    ] = None,
) -> int:
    """Print the tokens and the cost of turns, as far as the agents told them.

    A dash is what no agent told; it is never shown as 0. Sessions that were deleted are not counted.
    """
    from agentctl.ops import usage as ops

    out = output.output
    grouping = cast("By", values.choice(by, get_args(By), "--by"))
    after = None if since is None else time.time() - values.duration(since)

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            rows, total = await ops.grouped(app, session or (), grouping, after)
        _show(out, grouping, rows, total)

    return run_async(body)


def _show(out: Output, by: By, rows: list[Json], total: Json) -> None:
    if out.json:
        out.envelope({"by": by, "rows": rows, "total": total})
    elif out.quiet:
        write_text("".join(f"{row['key']}\n" for row in rows))
    elif not rows:
        out.story("There is no turn that has ended.")
    else:
        _print(out, by, rows, total)


def _print(out: Output, by: By, rows: list[Json], total: Json) -> None:
    from agentctl.cli.plain_output import print_table

    shown = [*rows, {"key": "total", **total}] if len(rows) > 1 else rows
    columns = (by, "turns", "in", "out", "cached", "cost", "told by")
    print_table(out, columns, [_cells(row) for row in shown], first_is_whole=True)
    unknown = total["turns"] - (total["usage"] or {}).get("turns", 0)
    if unknown:
        which = "Of one turn" if unknown == 1 else f"Of {unknown} turns"
        out.story(f"{which} no agent told the tokens.", "dim")


def _cells(row: Json) -> list[str]:
    told = row["usage"] or {}
    counts = [f"{told[name]:,}" if name in told else UNKNOWN for name in _COUNTS]
    return [row["key"], str(row["turns"]), *counts, money(row["cost"]) or UNKNOWN, told.get("source", UNKNOWN)]
