"""A sandbox at Daytona, from nothing to started, or back to nothing.

The call that creates it may be answered too late, or by an error of something in between, and have made it all the
same: it is found by its name then, and taken over when it bears the mark of this very attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from agentctl.errors import AgentctlError, Conflict, NotFound, SandboxError
from agentctl.providers.daytona.client import call
from agentctl.providers.daytona.place import ATTEMPT
from agentctl.providers.finish import finished, settled

SNAPSHOT_S = 120.0
BUILD_S = 900.0
"""An image that Daytona has not seen yet is fetched and made a snapshot of first."""

LATE_S = 10.0
"""How long one whose creation was answered by an error may take to show up."""

ADOPT_S = 60.0
DELETE_S = 60.0
_FIRST_POLL_S = 0.2

Waiting = ("creating", "restoring", "starting", "pending_build", "building_snapshot", "pulling_snapshot", "unknown")


async def made(daytona: Any, params: Any, *, timeout_s: float, on_logs: Callable[[str], None] | None = None) -> Any:
    """The started ``AsyncSandbox``. On any failure, cancellation included, nothing of it is left."""
    creating = asyncio.ensure_future(_created(daytona, params, timeout_s, on_logs))
    try:
        return await asyncio.shield(creating)
    except asyncio.CancelledError:
        await finished(_cut_off(daytona, params, creating))
        raise


async def _created(daytona: Any, params: Any, timeout_s: float, on_logs: Callable[[str], None] | None) -> Any:
    from agentctl.providers.daytona.errors import FOREIGN, is_unclear

    how = {"on_snapshot_create_logs": on_logs} if on_logs is not None else {}
    try:
        return await call(
            f"make the sandbox {params.name}",
            lambda: daytona.create(params, timeout=timeout_s, **how),
            repeatable=False,
        )
    except AgentctlError as e:
        cause = e.__cause__
        if not isinstance(cause, FOREIGN) or not is_unclear(cause):
            await discard(daytona, params, late_s=0)
            raise
        try:
            return await _adopted(daytona, params, e)
        except BaseException:
            await finished(discard(daytona, params, late_s=0))
            raise


async def _adopted(daytona: Any, params: Any, error: AgentctlError) -> Any:
    """The one that was made by the call that failed by ``error``, once it is started. Raise ``error`` when there is
    none."""
    sandbox = await _by_name(daytona, params, LATE_S)
    if sandbox is None:
        raise error
    if sandbox.labels.get(ATTEMPT) != params.labels[ATTEMPT]:
        raise Conflict(f"There is a sandbox {params.name} at Daytona already.") from error
    if _state(sandbox) not in (*Waiting, "started"):
        raise SandboxError(f"Daytona could not start the sandbox: {sandbox.error_reason or _state(sandbox)}") from error
    await call("start the sandbox", lambda: sandbox.wait_for_sandbox_start(timeout=ADOPT_S), repeatable=False)
    return sandbox


async def _by_name(daytona: Any, params: Any, late_s: float) -> Any | None:
    deadline = asyncio.get_running_loop().time() + late_s
    pause = _FIRST_POLL_S
    while True:
        try:
            return await call("look for the sandbox", lambda: daytona.get(params.name))
        except NotFound:
            if asyncio.get_running_loop().time() + pause > deadline:
                return None
        await asyncio.sleep(pause)
        pause *= 2


async def _cut_off(daytona: Any, params: Any, creating: asyncio.Future[Any]) -> None:
    """The request is not taken back, or it might be served after we looked: it is waited for until there is something
    to delete, or nothing to come."""
    while not creating.done():
        with suppress(AgentctlError):
            await call("look for the sandbox", lambda: daytona.get(params.name))
            creating.cancel()
        await asyncio.wait([creating], timeout=_FIRST_POLL_S)
    await settled(creating)
    await discard(daytona, params, late_s=0)


async def discard(daytona: Any, params: Any, *, late_s: float) -> None:
    """Delete what this attempt made, as far as Daytona can be reached; what it cannot tell of now, its labels and its
    timers are for."""
    with suppress(AgentctlError):
        sandbox = await _by_name(daytona, params, late_s)
        if sandbox is not None and sandbox.labels.get(ATTEMPT) == params.labels[ATTEMPT]:
            await deleted(sandbox)


async def deleted(sandbox: Any) -> None:
    """Return when it is gone. That it is gone already is as good; one that is on its way into another state is waited
    for."""
    with suppress(NotFound):
        await patiently(
            lambda: call("delete the sandbox", lambda: sandbox.delete(timeout=DELETE_S, wait=True)), DELETE_S
        )


async def patiently(work: Callable[[], Awaitable[Any]], limit_s: float) -> Any:
    """``work()`` again and again while Daytona says that the sandbox is just changing. Raise ``Conflict`` after
    ``limit_s``."""
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + limit_s, _FIRST_POLL_S
    while True:
        try:
            return await work()
        except Conflict:
            if loop.time() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, 5.0)


def _state(sandbox: Any) -> str:
    return str(getattr(sandbox.state, "value", sandbox.state))
