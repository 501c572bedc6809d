"""What the network policy of a sandbox refused, as lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agentctl.cli.output import write_text
from agentctl.cli.pager import paged
from agentctl.cli.running import run_async
from agentctl.cli.sandbox_options import told
from agentctl.cli.untrusted import one_line
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.cli.output import Output

Json = dict[str, Any]
_LONGEST = 260


def print_refused(sandbox: str, tail: int | None, out: Output) -> int:
    """``sandboxes logs --network``: a line for each host and port, the latest last."""
    from agentctl.ops.refused import refused

    async def body(interrupts: Interrupts) -> None:
        with App.open() as app:
            found = await refused(app, sandbox)
        kept = found if tail is None else found[len(found) - min(tail, len(found)) :]
        if out.json:
            out.envelope({"refused": kept})
        else:
            write_text("".join(f"{line(one)}\n" for one in kept))
            if not found:
                told(out, "Nothing was refused.")

    with paged(out):
        return run_async(body)


def line(one: Json) -> str:
    """When it was refused last, what, how often, why."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["last"]))
    where = one_line(f"{one['host']}:{one['port']}" if one["port"] else one["host"], _LONGEST)
    often = "once" if one["count"] == 1 else f"{one['count']} times"
    return f"{when}  {where}  {often}  {one['why']}".rstrip()
