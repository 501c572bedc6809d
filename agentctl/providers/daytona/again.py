"""A sandbox at Daytona that is there already, started again or stopped: with its disk as it was.

Daytona refuses whatever it is asked of a sandbox that is just changing, and may say so late: the next step is always
chosen by the state that the sandbox is seen in.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from agentctl.errors import (
    AgentctlError,
    Conflict,
    QuotaExceeded,
    SandboxError,
    SandboxNotFound,
    Unsupported,
    UsageError,
)
from agentctl.providers.daytona import place
from agentctl.providers.daytona.client import call

STABLE_S = 45.0
"""How long a sandbox may be on its way from one state to another, when it comes from no archive."""

RESTORE_S = 600.0
START_S = 120.0
STOP_S = 60.0
_FIRST_POLL_S, _POLL_S = 0.05, 2.0
_SLOW = ("archiving", "restoring")
_MAKING = ("creating", "pending_build", "building_snapshot", "pulling_snapshot")
_CHANGING = ("starting", "stopping", "pausing", "resuming", "resizing", "snapshotting", "forking")
_MOVING = (*_SLOW, *_MAKING, *_CHANGING)
_STEPS = 6


async def started(sandbox: Any) -> None:
    """Return when the machine runs and nothing in it runs that ran before. Raise ``SandboxNotFound`` for one that
    cannot be started, ``QuotaExceeded`` and the like when it cannot be now."""
    is_fresh, failure = False, None
    for attempt in range(_STEPS):
        state = await settled(sandbox)
        if state == "started" and (is_fresh or await _left_in_order(sandbox)):
            return
        is_fresh = is_fresh or state in ("stopped", "archived", "error")
        try:
            await _step(sandbox, state)
        except QuotaExceeded:
            raise
        except (Conflict, SandboxError, UsageError) as e:
            # It changed meanwhile, has done what was asked and not said so, or failed at it: its state will tell.
            failure = e
            await asyncio.sleep(min(_FIRST_POLL_S * 2**attempt, _POLL_S))
    raise failure or _not_startable(sandbox)


async def _step(sandbox: Any, state: str) -> None:
    limit_s = RESTORE_S if state == "archived" else START_S
    if state == "started":
        await call("stop the sandbox", lambda: sandbox.stop(timeout=STOP_S, force=True), repeatable=False)
    elif state in ("stopped", "archived", "paused"):
        await call("start the sandbox", lambda: sandbox.start(timeout=limit_s), repeatable=False)
    elif state == "error" and sandbox.recoverable:
        await call("recover the sandbox", lambda: sandbox.recover(timeout=START_S), repeatable=False)
    else:
        raise _not_startable(sandbox)


async def stopped(sandbox: Any, *, archive: bool) -> None:
    """Return when nothing runs in it; with ``archive`` when it is on its way into the archive. Raise ``Conflict`` for
    one that keeps changing."""
    for attempt in range(_STEPS):
        state = await settled(sandbox)
        if state in ("destroyed", "destroying", "archived") or (state != "started" and not archive):
            return
        with suppress(Conflict):
            if state == "started":
                await call("stop the sandbox", lambda: sandbox.stop(timeout=STOP_S), repeatable=False)
            else:
                await call("archive the sandbox", sandbox.archive, repeatable=False)
                return
        await asyncio.sleep(min(_FIRST_POLL_S * 2**attempt, _POLL_S) if state_of(sandbox) == state else 0)
    raise Conflict(f"Daytona did not stop the sandbox {sandbox.name}: it keeps changing.")


async def paused(sandbox: Any) -> None:
    """Return when it is frozen, which it may be already. Raise ``Unsupported`` for a machine that cannot be: Daytona's
    containers cannot, its virtual machines can."""
    if await settled(sandbox) == "paused":
        return
    try:
        await call("pause the sandbox", lambda: sandbox.pause(timeout=STOP_S), repeatable=False)
    except UsageError as e:
        raise Unsupported(
            f"Daytona cannot pause this sandbox: {e.message.partition(': ')[2]}",
            hint="It pauses virtual machines only; `agentctl sandboxes stop` keeps the disk of any sandbox.",
        ) from e


async def resumed(sandbox: Any) -> None:
    """Return when one that was paused goes on."""
    if await settled(sandbox) == "paused":
        await call("resume the sandbox", lambda: sandbox.start(timeout=START_S), repeatable=False)


async def settled(sandbox: Any) -> str:
    """The state that it stays in when nobody asks for another; what it is in after ``STABLE_S`` if it is stuck."""
    loop = asyncio.get_running_loop()
    began, pause = loop.time(), _FIRST_POLL_S
    while True:
        await call("look at the sandbox", sandbox.refresh_data)
        state = state_of(sandbox)
        limit_s = RESTORE_S if state in _SLOW else STABLE_S
        if state not in _MOVING or loop.time() - began > limit_s:
            return state
        await asyncio.sleep(pause)
        pause = min(2 * pause, _POLL_S)


def state_of(sandbox: Any) -> str:
    return str(getattr(sandbox.state, "value", sandbox.state))


async def _left_in_order(sandbox: Any) -> bool:
    """Whether the last supervisor has ended everything before itself."""
    try:
        note: bytes = await call("look at the supervisor", lambda: sandbox.fs.download_file(place.ENDED))
    except AgentctlError:  # there is none, or nobody can tell
        return False
    return note.strip() == b"0"


def _not_startable(sandbox: Any) -> SandboxNotFound:
    why = sandbox.error_reason or f"Daytona says {state_of(sandbox)}"
    return SandboxNotFound(f"The sandbox {sandbox.name} cannot be started again: {why}.")
