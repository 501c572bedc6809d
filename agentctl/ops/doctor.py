"""What agentctl needs on this machine, looked at one by one; each finding with its fix.

A check (``doctor_checks.py``) never fails: what goes wrong in it is its finding. ``fix`` does what cannot harm: it
deletes leftovers as ``cleanup-orphans`` would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from agentctl import errors
from agentctl.frozen import frozen

if TYPE_CHECKING:
    from agentctl.ops.app import App

Status = Literal["ok", "info", "warning", "error"]
CHECK_TIMEOUT_S = 20.0


@frozen
class Finding:
    """``info`` is something that is not there and need not be. ``fix`` is what helps; ``fixable`` what --fix does."""

    check: str
    status: Status
    detail: str
    fix: str = ""
    fixable: bool = False
    fixed: bool = False


@dataclass(slots=True)
class Look:
    """One look at all. ``broken`` are the checks that found what others would stumble over too."""

    app: App
    broken: set[str] = field(default_factory=set)


Check = Callable[[Look], AsyncIterator[Finding]]


async def examine(app: App, *, fix: bool = False) -> AsyncIterator[Finding]:
    """Every finding, in the order of ``CHECKS``; with ``fix`` those that can be mended safely are."""
    from agentctl.ops.doctor_checks import CHECKS, NEEDS

    look = Look(app)
    for name, check in CHECKS.items():
        if missing := look.broken & NEEDS.get(name, set()):
            yield Finding(check=name, status="info", detail=f"not looked at without the {missing.pop()}")
            continue
        async for finding in _found(look, name, check):
            if finding.status == "error":
                look.broken.add(name)
            yield await _mended(app, finding) if fix and finding.fixable else finding


async def _found(look: Look, name: str, check: Check) -> AsyncIterator[Finding]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            async for finding in check(look):
                yield finding
    except TimeoutError:
        yield Finding(
            check=name,
            status="error",
            detail=f"no answer within {CHECK_TIMEOUT_S:g} s",
            fix="Something hangs there: see whether the network, the disk or the machine is under load, and try again.",
        )
    except errors.AgentctlError as e:
        yield Finding(check=name, status="error", detail=e.message, fix=e.hint or "")


async def _mended(app: App, finding: Finding) -> Finding:
    from agentctl.ops.doctor_checks import FIXES

    try:
        await FIXES[finding.check](app)
    except errors.AgentctlError as e:
        return replace(finding, detail=f"{finding.detail}; mending failed: {e.message}")
    return replace(finding, status="ok", fixed=True)
