"""``agentctl doctor``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from agentctl.cli.lazy import examples
from agentctl.cli.options import OutputOptions
from agentctl.cli.output import Output, styled, wants_color, write_text
from agentctl.cli.running import run_async
from agentctl.cli.untrusted import one_line
from agentctl.ops.app import App

if TYPE_CHECKING:
    from agentctl.cli.interrupts import Interrupts
    from agentctl.ops.doctor import Finding

_SIGNS = {"ok": ("✓", "good"), "info": ("·", "dim"), "warning": ("!", "warning"), "error": ("✗", "error")}
_UNHEALTHY = 1


@examples("""
    agentctl doctor
    agentctl doctor --fix
    agentctl doctor --json
""")
def doctor(
    output: OutputOptions,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended without harm.")] = False,
) -> int:
    """Look at all that agentctl needs on this machine, and say what is missing and how to mend it.

    Exit 1 when something is broken; what is merely not set up is no fault.
    """
    out = output.output

    async def body(interrupts: Interrupts) -> int:
        from agentctl.ops.doctor import examine

        found: list[Finding] = []
        with App.open() as app:
            async for finding in examine(app, fix=fix):
                found.append(finding)
                if not out.json:
                    _show(out, finding)
        broken = any(finding.status == "error" for finding in found)
        if out.json:
            out.envelope({"healthy": not broken, "findings": [asdict(finding) for finding in found]})
        return _UNHEALTHY if broken else 0

    return run_async(body)


def _show(out: Output, finding: Finding) -> None:
    if out.quiet and finding.status in ("ok", "info"):
        return
    sign, style = _SIGNS[finding.status]
    detail = one_line(finding.detail, 400) + (" (mended)" if finding.fixed else "")
    line = f"{styled(sign, style, wants_color(sys.stdout, out.color))} {finding.check}: {detail}\n"
    write_text(line + (f"    {one_line(finding.fix, 400)}\n" if finding.fix and finding.status != "ok" else ""))
