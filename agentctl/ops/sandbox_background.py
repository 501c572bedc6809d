"""What ``--no-wait`` leaves to a process of its own: it goes on when the command line is gone, and tells by events."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from agentctl import errors
from agentctl.ops import sandbox_up, sandboxes
from agentctl.ops.app import App
from agentctl.ops.deadline import within
from agentctl.ops.report import silent

if TYPE_CHECKING:
    from agentctl.model import Sandbox

ACTIONS = ("create", "restart", "stop", "archive", "delete", "force-delete")
LONGEST_S = 3600.0
_begun: list[subprocess.Popen[bytes]] = []
"""Those that may have to be reaped, in a process that lives longer than they do."""


def begin(app: App, sandbox: Sandbox, action: str, timeout_s: float | None = None) -> None:
    """Start the process. Secrets that only this command was given do not reach it."""
    assert action in ACTIONS, action
    _begun[:] = [process for process in _begun if process.poll() is None]
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, action, sandbox.id, str(timeout_s or LONGEST_S)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(app.environ),
        start_new_session=True,
        close_fds=True,
    )
    _begun.append(process)


async def work(app: App, action: str, sandbox_id: str, timeout_s: float) -> None:
    """Do it. An error is told as the sandbox's ``sandbox.failed`` event, and kept in its row."""
    try:
        async with within(timeout_s, f"The sandbox's {action}"):
            await _do(app, action, sandbox_id)
    except errors.AgentctlError as e:
        with suppress(errors.SandboxNotFound):
            sandbox = app.store.named_sandbox(sandbox_id)
            if sandbox.error != e.to_json():
                told = ("sandbox.failed", {"action": action, "error": e.to_json()})
                app.store.change_sandbox(sandbox, told, error=e.to_json())


async def _do(app: App, action: str, sandbox_id: str) -> None:
    match action:
        case "create":
            async with sandbox_up.up(app, app.store.named_sandbox(sandbox_id), silent):
                return
        case "restart":
            await sandboxes.restart(app, sandbox_id)
        case "stop" | "archive":
            await sandboxes.stop(app, sandbox_id, archive=action == "archive")
        case _:
            await sandboxes.delete(app, sandbox_id, force=action == "force-delete")


def main(argv: list[str]) -> None:
    action, sandbox_id, timeout_s = argv
    with App.open() as app:
        asyncio.run(work(app, action, sandbox_id, float(timeout_s)))


if __name__ == "__main__":
    main(sys.argv[1:])
