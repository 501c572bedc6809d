"""What agentctl needs on this machine, looked at one by one; each finding with its fix.

A check never fails: what goes wrong in it is its finding. ``fix`` does what cannot harm: it deletes leftovers as
``cleanup-orphans`` would.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from agentctl import errors

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]
Status = Literal["ok", "info", "warning", "error"]
CHECK_TIMEOUT_S = 15.0
LOW_DISK_BYTES = 1 << 30
FUTURE_S = 300.0
MINIMUM_PYTHON = (3, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``info`` is something that is not there and need not be. ``fix`` is what helps; ``fixable`` what --fix does."""

    check: str
    status: Status
    detail: str
    fix: str = ""
    fixable: bool = False
    fixed: bool = False


Check = Callable[["App"], AsyncIterator[Finding]]


async def examine(app: App, *, fix: bool = False) -> AsyncIterator[Finding]:
    """Every finding, in the order of ``CHECKS``; with ``fix`` those that can be mended safely are."""
    for name, check in CHECKS.items():
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                async for finding in check(app):
                    yield await _mended(app, finding) if fix and finding.fixable else finding
        except TimeoutError:
            yield Finding(check=name, status="error", detail=f"no answer within {CHECK_TIMEOUT_S:g} s")
        except errors.AgentctlError as e:
            yield Finding(check=name, status="error", detail=e.message, fix=e.hint or "")


async def _mended(app: App, finding: Finding) -> Finding:
    try:
        await _FIXES[finding.check](app)
    except errors.AgentctlError as e:
        return replace(finding, detail=f"{finding.detail}; mending failed: {e.message}")
    return replace(finding, status="ok", fixed=True)


async def _python(app: App) -> AsyncIterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < MINIMUM_PYTHON:
        yield Finding(check="python", status="error", detail=version, fix="Install Python 3.11 or newer.")
    else:
        yield Finding(check="python", status="ok", detail=f"{version} ({sys.executable})")


async def _node(app: App) -> AsyncIterator[Finding]:
    from agentctl.agents import node

    for program in ("node", "npm"):
        path = shutil.which(program, path=app.environ.get("PATH"))
        if path is None:
            fix = "Agents are installed with npm: install nodejs and npm." if program == "npm" else ""
            detail = "not on PATH" + ("; agents bring their own" if program == "node" else "")
            yield Finding(check=program, status="warning" if fix else "info", detail=detail, fix=fix)
            continue
        runtime = await node.machine_node() if program == "node" else None
        yield Finding(check=program, status="ok", detail=f"{runtime.version} ({path})" if runtime else path)


async def _agents(app: App) -> AsyncIterator[Finding]:
    from agentctl.ops.agents import list_agents

    rows = [row for row in list_agents(app) if row["builtin"] and row["status"] in ("installed", "outdated", "on PATH")]
    for row in rows:
        if row["status"] == "outdated":
            yield Finding(
                check="agent",
                status="warning",
                detail=f"{row['name']} {row['installed']} is installed, {row['wanted']} is wanted",
                fix=f"agentctl agents install {row['name']}",
            )
        else:
            yield Finding(check="agent", status="ok", detail=f"{row['name']} {row['installed'] or row['status']}")
    if not rows:
        fix = "agentctl agents install claude"
        yield Finding(check="agent", status="info", detail="none but the built-in mock agent", fix=fix)


async def _credentials(app: App) -> AsyncIterator[Finding]:
    from agentctl.ops import credentials

    about = credentials.status(app)
    for row in about["providers"]:
        expired = row.get("expired")
        yield Finding(
            check="credentials",
            status="warning" if expired else "ok",
            detail=f"{row['provider']}: {row['source']}{', expired' if expired else ''}",
            fix=f"Log in again with {row['source']}." if expired else "",
        )
    if not about["providers"]:
        yield Finding(
            check="credentials",
            status="info",
            detail="none found",
            fix="Set ANTHROPIC_API_KEY, OPENAI_API_KEY, … or log in with the agent's own command.",
        )


async def _providers(app: App) -> AsyncIterator[Finding]:
    from agentctl.providers.lookup import PROVIDERS

    used = {sandbox.provider for sandbox in app.store.sandboxes()} | {app.config.provider}
    for name in PROVIDERS:
        try:
            await app.provider(name).check()
        except errors.AgentctlError as e:
            yield Finding(check=name, status="error" if name in used else "info", detail=e.message, fix=e.hint or "")
        else:
            yield Finding(check=name, status="ok", detail="can be used")


async def _store(app: App) -> AsyncIterator[Finding]:
    where = "Postgres" if app.config.database_url else str(app.paths.database)
    began = time.monotonic()
    sessions = app.store.sessions(limit=None)
    took_ms = (time.monotonic() - began) * 1000
    yield Finding(check="store", status="ok", detail=f"{where}: {len(sessions)} sessions, read in {took_ms:.0f} ms")
    future = [s.name for s in sessions if s.updated_at > time.time() + FUTURE_S]
    if future:
        yield Finding(
            check="clock",
            status="warning",
            detail=f"{future[0]} was changed in the future",
            fix="Set the clocks of all machines that share the store: timedatectl set-ntp true",
        )
    else:
        yield Finding(check="clock", status="ok", detail=time.strftime("%Y-%m-%d %H:%M:%S %Z"))


async def _state(app: App) -> AsyncIterator[Finding]:
    root = app.paths.root
    if not root.is_dir():
        yield Finding(check="state directory", status="info", detail=f"{root} is made by the first command")
        return
    if root.stat().st_mode & 0o077:
        app.paths.ensure()  # as every command does that opens it
        yield Finding(check="state directory", status="ok", detail=f"others could read {root}", fixed=True)
    size, free = await asyncio.to_thread(_size_of, str(root)), shutil.disk_usage(root).free
    detail = f"{root}: {size / 1e6:.0f} MB, {free / 1e9:.1f} GB free"
    fix = "Free some space, or set AGENTCTL_STATE_DIR to a directory on another disk."
    low = free < LOW_DISK_BYTES
    yield Finding(check="disk", status="warning" if low else "ok", detail=detail, fix=fix if low else "")


async def _leftovers(app: App) -> AsyncIterator[Finding]:
    from agentctl.ops import orphans

    wanted = orphans.Sweep(origin=app.origin, providers=("unix_local",))
    found = [o for o in await orphans.sweep(app, wanted, lambda orphan: None) if o.action == "would delete"]
    if found:
        fix = "agentctl cleanup-orphans --yes"
        yield Finding(
            check="leftovers",
            status="warning",
            detail=f"{len(found)} that no session wants",
            fix=fix,
            fixable=True,
        )
    else:
        yield Finding(check="leftovers", status="ok", detail="none")


async def _clear_leftovers(app: App) -> None:
    from agentctl.ops import orphans

    wanted = orphans.Sweep(origin=app.origin, providers=("unix_local",), delete=True)
    failed = [o for o in await orphans.sweep(app, wanted, lambda orphan: None) if o.action == "failed"]
    if failed:
        raise errors.SandboxError(failed[0].reason)


def _size_of(directory: str) -> int:
    return sum(_sizes(directory))


def _sizes(directory: str) -> Iterator[int]:
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _sizes(entry.path)
        else:
            try:
                yield entry.stat(follow_symlinks=False).st_blocks * 512
            except OSError:
                continue


CHECKS: dict[str, Check] = {
    "python": _python,
    "node": _node,
    "state directory": _state,  # the first of those that open it, by which it is made private
    "agent": _agents,
    "credentials": _credentials,
    "store": _store,
    "providers": _providers,
    "leftovers": _leftovers,
}
_FIXES: dict[str, Callable[[App], Awaitable[None]]] = {
    "leftovers": _clear_leftovers,
}
