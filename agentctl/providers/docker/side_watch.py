"""A process that waits for the end of a sandbox's own container, and stops what stands beside it.

A supervisor that is idle leaves by itself, when nobody may be there to see it; its services would run on for ever. The
engine has no way to tie one container's life to another's. This process does nothing but wait for the engine's answer;
when it is killed, the next command that needs the sandbox removes all of it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from agentctl.errors import AgentctlError, ProviderUnavailable
from agentctl.providers.docker.backend import ATTEMPT, ROLE
from agentctl.providers.docker.engine import Engine

STOP_GRACE_S = 2
RETRY_S = 5.0
RETRIES = 60
"""An engine that is away for longer than this has stopped its containers, or will, when it comes back."""

_KEPT = ("PATH", "HOME", "LANG", "XDG_RUNTIME_DIR", "VIRTUAL_ENV", "PYTHONPATH")
_KEPT_BEGINNINGS = ("DOCKER_", "SSH_")
_begun: list[subprocess.Popen[bytes]] = []
"""Those that may have to be reaped, in a process that lives longer than they do."""


@atexit.register
def _let_go() -> None:
    """They outlive us on purpose: nobody is to be warned of it."""
    for process in _begun:
        process.returncode = process.returncode or 0


def begin(engine: Engine, container: str, attempt: str) -> None:
    """Start the process. Of our environment it gets what an engine is reached by: it may live for days. Where there can
    be none, the next command does its work."""
    _begun[:] = [process for process in _begun if process.poll() is None]
    null = subprocess.DEVNULL
    argv = [sys.executable, "-m", __name__, engine.url, container, attempt]
    how: dict[str, Any] = {"stdin": null, "stdout": null, "stderr": null, "close_fds": True, "start_new_session": True}
    with suppress(OSError):
        _begun.append(subprocess.Popen(argv, env=_environment(os.environ), cwd="/", **how))


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in ours.items() if name in _KEPT or name.startswith(_KEPT_BEGINNINGS)}


async def watch(engine: Engine, container: str, attempt: str) -> None:
    """Return when ``container`` has ended and nothing that bears the label ``attempt`` runs beside it."""
    for _ in range(RETRIES):
        with suppress(ProviderUnavailable):
            await _end_of(engine, container)
            if await engine.call("stop what is beside a sandbox", lambda api: _stopped(api, container, attempt)):
                return
        await asyncio.sleep(RETRY_S)


async def _end_of(engine: Engine, container: str) -> None:
    """Return when it has ended or is gone. Raise ``ProviderUnavailable`` when the engine goes away before."""
    try:
        reader, writer = await engine.hijack(f"/containers/{container}/wait?condition=not-running")
    except ProviderUnavailable:
        raise
    except AgentctlError:  # there is no such container
        return
    try:
        answer = await reader.read(1)
    except OSError:
        answer = b""
    finally:
        writer.close()
    if not answer:
        raise ProviderUnavailable(f"The Docker engine at {engine.url} broke off.")


def _stopped(api: Any, container: str, attempt: str) -> bool:
    """False when the container itself is still there and runs."""
    from docker import errors as sdk

    with suppress(sdk.NotFound):
        if api.inspect_container(container)["State"]["Running"]:
            return False
    for about in api.containers(filters={"label": [f"{ATTEMPT}={attempt}", ROLE]}):
        with suppress(sdk.NotFound):
            api.stop(about["Id"], timeout=STOP_GRACE_S)
    return True


if __name__ == "__main__":
    url, its_container, its_attempt = sys.argv[1:]
    asyncio.run(watch(Engine(url), its_container, its_attempt))
