"""The checks of ``doctor``: each looks at one thing and tells what it found there."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.ops.doctor import Check, Finding, Look

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]
PROVIDER_TIMEOUT_S = 15.0
LOW_DISK_BYTES = 1 << 30
MOST_CHECKED_BYTES = 1 << 29
SKEW_S = 10.0
FUTURE_S = 300.0
STALE_S = 3600.0
MINIMUM_PYTHON = (3, 11)
_NTP = "timedatectl set-ntp true"


async def _python(look: Look) -> AsyncIterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < MINIMUM_PYTHON:
        yield Finding(check="python", status="error", detail=version, fix="Install Python 3.11 or newer.")
    else:
        yield Finding(check="python", status="ok", detail=f"{version} ({sys.executable})")


async def _node(look: Look) -> AsyncIterator[Finding]:
    from agentctl.agents import node

    path = shutil.which("node", path=look.app.environ.get("PATH"))
    runtime = await node.machine_node() if path else None
    if path is None:
        yield Finding(check="node", status="info", detail="not on PATH; agents bring their own")
    elif runtime is None:
        yield Finding(
            check="node", status="warning", detail=f"{path} does not run", fix="Install it again, or take it off PATH."
        )
    else:
        yield Finding(check="node", status="ok", detail=f"{runtime.version} ({path})")
    npm = shutil.which("npm", path=look.app.environ.get("PATH"))
    if npm is None:
        fix = "Agents are installed with npm: `apt-get install npm` on Debian and Ubuntu, `brew install node` on macOS."
        yield Finding(check="npm", status="warning", detail="not on PATH", fix=fix)
    else:
        yield Finding(check="npm", status="ok", detail=f"{_npm_version(Path(npm))} ({npm})".lstrip())


def _npm_version(npm: Path) -> str:
    """By its package, since npm takes a third of a second to say it; "" where it lies elsewhere."""
    try:
        return str(json.loads((npm.resolve().parent.parent / "package.json").read_bytes())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


async def _config(look: Look) -> AsyncIterator[Finding]:
    from agentctl.ops import settings

    _ = look.app.config  # an error of it is the finding
    about = settings.paths(look.app)
    files = [path for path in (about["user"], about["project"]) if path and os.access(path, os.F_OK)]
    yield Finding(check="config", status="ok", detail=", ".join(files) or f"no file; yours would be {about['user']}")
    for warning in look.app.config.warnings:
        yield Finding(check="config", status="warning", detail=warning, fix="agentctl config trust")


async def _state(look: Look) -> AsyncIterator[Finding]:
    paths = look.app.paths
    root, is_there = paths.root, paths.root.is_dir()
    was_open = is_there and bool(root.stat().st_mode & 0o077)
    fix = "Free some space, or set AGENTCTL_STATE_DIR to a directory on another disk."
    try:
        paths.ensure()  # makes it, and makes it private, as every command does
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as e:
        detail = f"Cannot write into {root}: {e.strerror}"
        yield Finding(check="state directory", status="error", detail=detail, fix=fix)
        return
    if was_open:
        yield Finding(check="state directory", status="ok", detail=f"others could read {root}", fixed=True)
    size, free = await asyncio.to_thread(_size_of, str(root)), shutil.disk_usage(root).free
    detail = f"{root}: {size / 1e6:.0f} MB, {free / 1e9:.1f} GB free; which commands ran: {paths.log}"
    low = free < LOW_DISK_BYTES
    yield Finding(check="state directory", status="warning" if low else "ok", detail=detail, fix=fix if low else "")


async def _store(look: Look) -> AsyncIterator[Finding]:
    app = look.app
    where = "Postgres" if app.config.database_url else str(app.paths.database)
    began = time.monotonic()
    sessions = app.store.sessions(limit=None)
    took_ms = (time.monotonic() - began) * 1000
    if faults := _faults(app):
        fix = f"Move {app.paths.database} away to start a new one; the sessions' logs on the volumes are not touched."
        yield Finding(check="store", status="error", detail=f"{where} is damaged: {'; '.join(faults)}", fix=fix)
    else:
        yield Finding(check="store", status="ok", detail=f"{where}: {len(sessions)} sessions, read in {took_ms:.0f} ms")


def _faults(app: App) -> list[str]:
    """A database so large that to read it whole would take seconds is taken for sound."""
    file = app.paths.database
    is_large = file.exists() and file.stat().st_size > MOST_CHECKED_BYTES
    return [] if is_large else app.store.faults()


async def _clock(look: Look) -> AsyncIterator[Finding]:
    store = look.app.store
    ahead_s = time.time() - store.now()
    future = [s.name for s in store.sessions(limit=None) if s.updated_at > store.now() + FUTURE_S]
    if abs(ahead_s) > SKEW_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        detail = f"this machine is {abs(ahead_s):.0f} s {way} the database's server"
        yield Finding(check="clock", status="warning", detail=detail, fix=f"Set the clocks of both: {_NTP}")
    elif future:
        fix = f"Set the clocks of all machines that share the store: {_NTP}"
        yield Finding(check="clock", status="warning", detail=f"{future[0]} was changed in the future", fix=fix)
    else:
        yield Finding(check="clock", status="ok", detail=time.strftime("%Y-%m-%d %H:%M:%S %Z"))


async def _agents(look: Look) -> AsyncIterator[Finding]:
    from agentctl.ops.agents import list_built_in

    rows = [row for row in list_built_in(look.app) if row["status"] in ("installed", "outdated", "on PATH")]
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


async def _credentials(look: Look) -> AsyncIterator[Finding]:
    from agentctl.ops import credentials
    from agentctl.ops.agents import list_built_in

    about = credentials.status(look.app)
    for row in about["providers"]:
        yield _credential(row)
    there = {row["name"] for row in list_built_in(look.app) if row["status"] in ("installed", "outdated", "on PATH")}
    for row in about["agents"]:
        if row["agent"] in there and not row["ready"]:
            detail = f"missing for {row['agent']}, which is installed"
            yield Finding(check="credentials", status="warning", detail=detail, fix=_sentence(row["fix"]))
    if not about["providers"]:
        yield Finding(
            check="credentials",
            status="info",
            detail="none found",
            fix="Set ANTHROPIC_API_KEY, OPENAI_API_KEY, … or log in with the agent's own command.",
        )


def _credential(row: Json) -> Finding:
    from agentctl.ops.credentials import RENEW

    what, until = f"{row['provider']}: {row['source']}", row["expires_at"]
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(until)) if until else ""
    if row["expired"]:
        fix = f"Log in again: {RENEW.get(row['source'], row['source'])}"
        return Finding(check="credentials", status="warning", detail=f"{what}, expired {when}".rstrip(), fix=fix)
    return Finding(check="credentials", status="ok", detail=f"{what}, valid until {when}" if until else what)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


async def _providers(look: Look) -> AsyncIterator[Finding]:
    from agentctl.providers.lookup import PROVIDERS

    used = {look.app.config.provider}
    if "store" not in look.broken:
        used |= {sandbox.provider for sandbox in look.app.store.sandboxes()}
    for found in await asyncio.gather(*(_provider(look.app, name, name in used) for name in PROVIDERS)):
        yield found


async def _provider(app: App, name: str, used: bool) -> Finding:
    status, fix = "error" if used else "info", ""
    try:
        async with asyncio.timeout(PROVIDER_TIMEOUT_S):
            await app.provider(name).check()
        status, detail = "ok", "can be used"
    except TimeoutError:
        detail, fix = f"no answer within {PROVIDER_TIMEOUT_S:g} s", "See whether its server is up and can be reached."
    except errors.AgentctlError as e:
        detail, fix = e.message, e.hint or ""
    return Finding(check=name, status=status, detail=detail, fix=fix)  # type: ignore[arg-type]  # one of two words


async def _leftovers(look: Look) -> AsyncIterator[Finding]:
    from agentctl.ops import orphans

    found = await orphans.sweep(look.app, _sweep(look.app), lambda orphan: None)
    stale = [one for one in found if one.action == "would delete"]
    if stale:
        some = ", ".join(one.id for one in stale[:3]) + (", …" if len(stale) > 3 else "")
        yield Finding(
            check="leftovers",
            status="warning",
            detail=f"{len(stale)} that no session wants: {some}",
            fix="agentctl cleanup-orphans --provider unix_local --older-than 1h --yes",
            fixable=True,
        )
    else:
        yield Finding(check="leftovers", status="ok", detail="no stale process, directory or socket")


def _sweep(app: App, *, delete: bool = False) -> Any:
    from agentctl.ops.orphans import Sweep

    return Sweep(origin=app.origin, providers=("unix_local",), older_than_s=STALE_S, delete=delete)


async def _clear_leftovers(app: App) -> None:
    from agentctl.ops import orphans

    swept = await orphans.sweep(app, _sweep(app, delete=True), lambda orphan: None)
    if failed := [one for one in swept if one.action == "failed"]:
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
    "config": _config,
    "state directory": _state,  # the first of those that open it, by which it is made private
    "store": _store,
    "clock": _clock,
    "agent": _agents,
    "credentials": _credentials,
    "providers": _providers,
    "leftovers": _leftovers,
}
NEEDS: dict[str, set[str]] = {
    "store": {"config", "state directory"},
    "clock": {"config", "state directory", "store"},
    "providers": {"config", "state directory"},
    "leftovers": {"config", "state directory", "store"},
}
"""What has to be in order for a check to tell anything."""

FIXES: dict[str, Callable[[App], Awaitable[None]]] = {"leftovers": _clear_leftovers}
