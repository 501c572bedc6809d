"""How a test pulls the plug of a sandbox, behind agentctl's back: one class per provider.

A new provider is one more class in ``PLUGS``; the scenarios are run on it unless its ``not_for`` says why not.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import ClassVar, Protocol

from agentctl.model import Sandbox, Session
from agentctl.ops.app import App
from agentctl.supervisor.processes import ProcessIdentity, end_all, marked

WAIT_S = 10.0


class Plug(Protocol):
    """One provider's sandboxes as its own tools see them: nothing here asks agentctl's store or supervisor."""

    provider: ClassVar[str]
    not_for: ClassVar[dict[str, str]]
    """Scenario → why it makes no sense here."""

    starts_again: ClassVar[bool]
    """Whether a stopped sandbox is started again, under its own id, rather than replaced."""

    async def stop(self, sandbox: Sandbox) -> None:
        """As the provider's own stop: nothing runs in the sandbox any more; it may be started again."""

    async def delete(self, sandbox: Sandbox) -> None:
        """As the provider's own delete: the sandbox is gone, its volume stays."""

    async def kill_supervisor(self, sandbox: Sandbox) -> None:
        """Only the supervisor dies; whatever else runs in the sandbox runs on."""

    async def remains(self, sandbox: Sandbox) -> list[str]:
        """What the backend still has of the sandbox, in words; ``[]`` when it was destroyed."""

    def marker(self, session: Session) -> Path:
        """A file in the agent's HOME, as this host sees it."""


class UnixLocalPlug:
    """A sandbox is a tree of processes and a run directory; a dead one has nothing that could be started again."""

    provider: ClassVar[str] = "unix_local"
    not_for: ClassVar[dict[str, str]] = {}
    starts_again: ClassVar[bool] = False

    def __init__(self, app: App) -> None:
        self._app = app

    async def stop(self, sandbox: Sandbox) -> None:
        await self.kill_supervisor(sandbox)
        assert await end_all(lambda: marked(sandbox.id), grace_s=0) == []

    async def delete(self, sandbox: Sandbox) -> None:
        await self.stop(sandbox)
        shutil.rmtree(sandbox.handle["run_dir"])

    async def kill_supervisor(self, sandbox: Sandbox) -> None:
        supervisor = ProcessIdentity.of(sandbox.handle["pid"])
        assert supervisor is not None
        assert supervisor.start_ticks == sandbox.handle["start_ticks"], "the supervisor was dead already"
        supervisor.signal(signal.SIGKILL)
        async with asyncio.timeout(WAIT_S):
            while supervisor.is_alive():
                await asyncio.sleep(0.005)

    async def remains(self, sandbox: Sandbox) -> list[str]:
        left = [f"process {process.pid}" for process in marked(sandbox.id)]
        run_dir, cgroup = sandbox.handle["run_dir"], sandbox.handle.get("cgroup")
        places = [run_dir, *([cgroup] if cgroup else [])]
        return left + [f"directory {place}" for place in places if os.path.exists(place)]

    def marker(self, session: Session) -> Path:
        volume = self._app.store.volume(self.provider, session.spec.volume)
        assert volume is not None
        place = self._app.provider(self.provider).volume_path(volume, f"agents/{session.id}/home/marker")
        assert place is not None
        return place


PLUGS: dict[str, type[Plug]] = {plug.provider: plug for plug in (UnixLocalPlug,)}
