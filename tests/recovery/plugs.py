"""How a test pulls the plug of a sandbox, behind agentctl's back: one class per provider.

A new provider is one more class in ``PLUGS``; the scenarios are run on it unless its ``not_for`` says why not.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Any, ClassVar, Protocol

import docker

from agentctl.model import Sandbox, Session
from agentctl.ops.app import App
from agentctl.supervisor.processes import ProcessIdentity, end_all, marked
from tests.docker import images

WAIT_S = 10.0


class Plug(Protocol):
    """One provider's sandboxes as its own tools see them: nothing here asks agentctl's store or supervisor."""

    provider: ClassVar[str]
    not_for: ClassVar[dict[str, str]]
    """Scenario → why it makes no sense here."""

    agents: ClassVar[tuple[str, ...]]
    """The real agents that run in its sandboxes, beside the mock agent."""

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

    def spec(self, cwd: Path) -> dict[str, Any]:
        """Fields of ``SessionSpec`` for a session of this provider; ``cwd`` is a directory of this host."""

    def place(self, relative: str) -> Path:
        """Where a path of the volume ``default`` lies on this host."""

    def marker(self, session: Session) -> Path:
        """A file in the agent's HOME, as this host sees it."""


class UnixLocalPlug:
    """A sandbox is a tree of processes and a run directory; a dead one has nothing that could be started again."""

    provider: ClassVar[str] = "unix_local"
    not_for: ClassVar[dict[str, str]] = {}
    agents: ClassVar[tuple[str, ...]] = ("claude",)
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

    def spec(self, cwd: Path) -> dict[str, Any]:
        return {"cwd": str(cwd)}

    def place(self, relative: str) -> Path:
        return self._app.paths.volumes / "default" / relative

    def marker(self, session: Session) -> Path:
        return self.place(f"agents/{session.id}/home/marker")


class DockerPlug:
    """A sandbox is a container, which lives as long as its supervisor; the tests' engine keeps volumes on this host."""

    provider: ClassVar[str] = "docker"
    not_for: ClassVar[dict[str, str]] = {
        "test_a_sandbox_whose_maker_died_before_it_bore_its_labels_is_cleared_away": "containers are made with labels"
    }
    agents: ClassVar[tuple[str, ...]] = ()  # none has been tried in a container yet
    starts_again: ClassVar[bool] = False

    def __init__(self, app: App) -> None:
        self._app = app
        self._api = docker.APIClient(base_url=os.environ["DOCKER_HOST"], version="auto")

    async def stop(self, sandbox: Sandbox) -> None:
        await asyncio.to_thread(self._api.kill, sandbox.handle["container"])
        await asyncio.to_thread(self._api.wait, sandbox.handle["container"])

    async def delete(self, sandbox: Sandbox) -> None:
        await asyncio.to_thread(self._api.remove_container, sandbox.handle["container"], force=True)

    async def kill_supervisor(self, sandbox: Sandbox) -> None:
        await self.stop(sandbox)

    async def remains(self, sandbox: Sandbox) -> list[str]:
        label = {"label": f"agentctl.sandbox={sandbox.id}"}
        containers = self._api.containers(all=True, filters=label)
        left = [f"processes of container {one['Id']}" for one in containers if one["State"] == "running"]
        left += [f"container {one['Id']}" for one in containers]
        left += [f"volume {about['Name']}" for about in self._api.volumes(filters=label)["Volumes"] or ()]
        run_dir = self._app.paths.docker / "run" / sandbox.id
        return [*left, *([f"directory {run_dir}"] if run_dir.exists() else [])]

    def spec(self, cwd: Path) -> dict[str, Any]:
        return {"image": images.tiny(self._api)}

    def place(self, relative: str) -> Path:
        volume = self._app.store.volume(self.provider, "default")
        assert volume is not None
        return Path(self._api.inspect_volume(volume.handle["volume"])["Mountpoint"]) / relative

    def marker(self, session: Session) -> Path:
        return self.place(f"agents/{session.id}/home/marker")


PLUGS: dict[str, type[Plug]] = {plug.provider: plug for plug in (UnixLocalPlug, DockerPlug)}
