"""A real supervisor in its own process, spoken to over its real socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

from agentctl.providers.base import Endpoint
from agentctl.supervisor_client import SupervisorClient
from agentctl.wire import Boot, PermissionSetup, Ready, Recipe

REPOSITORY = Path(__file__).resolve().parents[2]
TOKEN = "test-token-0123456789"
ALL = {value: PermissionSetup() for value in ("ask", "accept-edits", "allow", "deny")}


def mock_recipe(*flags: str, **fields) -> Recipe:
    argv = (sys.executable, "-IS", str(REPOSITORY / "agentctl/supervisor/mock/agent.py"), *flags)
    return Recipe(**{"name": "mock", "argv": argv, "permissions": ALL, "stop_grace_s": 1, **fields})


class RunningSupervisor:
    """``process`` serves on ``socket``; ``client()`` opens a client to it."""

    def __init__(self, root: Path, process: asyncio.subprocess.Process, ready: Ready, sandbox_id: str) -> None:
        self.root = root
        self.sandbox_id = sandbox_id
        self.process = process
        self.ready = ready
        self.socket = ready.listen.get("unix")

    def client(self, token: str = TOKEN) -> SupervisorClient:
        return SupervisorClient(Endpoint(dial=lambda: asyncio.open_unix_connection(self.socket)), token)


@contextlib.asynccontextmanager
async def supervisor(root: Path, /, *recipes: Recipe, **boot_fields):
    """Start ``serve`` and hand it a Boot line; at the end it is told to leave, and must."""
    for name in ("log", "home", "tmp", "project"):
        (root / name).mkdir(parents=True, exist_ok=True)
    boot = Boot(
        **{
            "sandbox_id": f"sbx_test{os.getpid()}{abs(hash(str(root))) % 10**8}",
            "token": TOKEN,
            "listen": {"unix": str(root / "s.sock")},
            "log_root": str(root / "log"),
            "home": str(root / "home"),
            "tmp": str(root / "tmp"),
            "agent_env": {"HOME": str(root / "home"), "PATH": os.environ["PATH"]},
            "recipes": {r.name: r for r in recipes},
            **boot_fields,
        }
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from agentctl.supervisor.serve import main; main()",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(boot.to_line())
    process.stdin.close()
    async with asyncio.timeout(20):
        line = await process.stdout.readline()
    running = RunningSupervisor(root, process, Ready.from_line(line), boot.sandbox_id)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(20):
            await process.wait()
        process._transport.close()
