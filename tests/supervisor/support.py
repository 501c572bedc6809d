"""A real supervisor in its own process, spoken to over its real socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

from agentctl.providers.base import Endpoint
from agentctl.supervisor_client import SupervisorClient
from agentctl.supervisor_client.http import Connections
from agentctl.wire import Boot, PermissionSetup, Ready, Recipe

REPOSITORY = Path(__file__).resolve().parents[2]
TOKEN = "test-token-0123456789"
ALL = {value: PermissionSetup() for value in ("ask", "accept-edits", "allow", "deny")}


def mock_recipe(*flags: str, **fields) -> Recipe:
    argv = (sys.executable, "-IS", str(REPOSITORY / "agentctl/supervisor/mock/agent.py"), *flags)
    return Recipe(**{"name": "mock", "argv": argv, "permissions": ALL, "stop_grace_s": 1, **fields})


class Gate:
    """While it is closed, an agent that starts gets no further than its first step."""

    def __init__(self, root: Path) -> None:
        self._file = root / "gate-is-closed"
        waiting = f'while [ -e "{self._file}" ]; do sleep 0.02; done; exec "$@"'
        mock = mock_recipe()
        self.recipe = mock_recipe(argv=("/bin/sh", "-c", waiting, "sh", *mock.argv))

    def close(self) -> None:
        self._file.touch()

    def open(self) -> None:
        self._file.unlink()


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

    def connections(self) -> Connections:
        return Connections(lambda: asyncio.open_unix_connection(self.socket))


class Answer(NamedTuple):
    """What came back for one request, an error or not."""

    status: int
    headers: list[tuple[bytes, bytes]]
    content: bytes


IN_TIME = {"timeout_s": 30.0, "connect_timeout_s": 5.0}


async def ask(connections: Connections, method, path, headers, content=None) -> Answer:
    async with connections.request(method, path, headers, content, **IN_TIME) as response:
        return Answer(response.status, response.headers, await response.aread())


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
    async with asyncio.timeout(60):
        line = await process.stdout.readline()
    running = RunningSupervisor(root, process, Ready.from_line(line), boot.sandbox_id)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(60):
            await process.wait()
        process._transport.close()
