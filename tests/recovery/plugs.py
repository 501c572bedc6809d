"""How a test pulls the plug of a sandbox, behind agentctl's back: one class per provider.

A new provider is one more class in ``PLUGS``; the scenarios are run on it unless its ``not_for`` says why not.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol

import docker

from agentctl.model import Sandbox, Session
from agentctl.ops import mirror
from agentctl.ops.app import App
from agentctl.supervisor.keep.read import assemble
from agentctl.supervisor.log.session_log import LogReader
from agentctl.supervisor.processes import ProcessIdentity, end_all, marked
from tests.docker import images
from tests.emulators.daytona import DaytonaEmulator
from tests.emulators.daytona.kept import is_kept
from tests.emulators.modal import ModalEmulator

WAIT_S = 60.0
KEPT_WITHIN_S = 10.0


class Plug(Protocol):
    """One provider's sandboxes as its own tools see them: nothing here asks agentctl's store or supervisor."""

    provider: ClassVar[str]
    not_for: ClassVar[dict[str, str]]
    """Scenario → why it makes no sense here."""

    agents: ClassVar[tuple[str, ...]]
    """The real agents that run in its sandboxes, beside the mock agent."""

    everyday: ClassVar[str | None]
    """The beginning, as a pattern, of scenarios that are played without ``--every-scenario``; None: of all."""

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
        """A file in the agent's HOME, as this host sees it while the sandbox runs."""

    def marked(self, session: Session) -> str:
        """What is in that file, whether or not a sandbox is alive."""

    def forget(self, session: Session) -> None:
        """Take from HOME what the mock agent remembers by, while no sandbox is alive."""

    def log(self, session: Session, scratch: Path) -> LogReader:
        """The session's log as it is on the volume now. ``scratch`` is a directory that does not exist yet."""


class HomeOnVolume:
    """HOME and log as they are, in directories of this host."""

    everyday: ClassVar[str | None] = None

    def place(self, relative: str) -> Path:
        raise NotImplementedError

    def marker(self, session: Session) -> Path:
        return self.place(f"agents/{session.id}/home/marker")

    def marked(self, session: Session) -> str:
        return self.marker(session).read_text()

    def forget(self, session: Session) -> None:
        shutil.rmtree(self.marker(session).with_name(".mock-agent"))

    def log(self, session: Session, scratch: Path) -> LogReader:
        return LogReader(self.place(mirror.log_path(session.id)))


class UnixLocalPlug(HomeOnVolume):
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


class DockerPlug(HomeOnVolume):
    """A sandbox is a container, which lives as long as its supervisor; the tests' engine keeps volumes on this host."""

    provider: ClassVar[str] = "docker"
    not_for: ClassVar[dict[str, str]] = {
        "test_a_sandbox_whose_maker_died_before_it_bore_its_labels_is_cleared_away": "containers are made with labels"
    }
    agents: ClassVar[tuple[str, ...]] = ("claude",)
    agents_in: ClassVar[tuple[str, ...]] = ("test_07_a_stop_that_nobody_notices_loses_nothing_the_agent_made_up",)
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

    def remove_volume(self) -> None:
        """As ``docker volume rm``, by somebody who did not know."""
        volume = self._app.store.volume(self.provider, "default")
        assert volume is not None
        self._api.remove_volume(volume.handle["volume"])

    def pause(self, sandbox: Sandbox) -> None:
        self._api.pause(sandbox.handle["container"])


class DaytonaPlug:
    """A sandbox is a machine of the emulated Daytona; HOME and log are kept on its volume as whole files."""

    provider: ClassVar[str] = "daytona"
    not_for: ClassVar[dict[str, str]] = {
        "test_a_sandbox_whose_maker_died_before_it_bore_its_labels_is_cleared_away": "sandboxes are made with labels",
        "test_a_session_that_is_idle_is_put_to_sleep_under_an_open_stream": "the machine runs on; Daytona stops it",
    }
    agents: ClassVar[tuple[str, ...]] = ()  # half a gigabyte of one would be sent to each new sandbox
    everyday: ClassVar[str | None] = r"test_\d\d_"
    starts_again: ClassVar[bool] = True

    def __init__(self, app: App) -> None:
        self._app = app
        self._cloud = DaytonaEmulator.at(os.environ["DAYTONA_API_URL"])

    async def stop(self, sandbox: Sandbox) -> None:
        await self._kept(sandbox)
        one = self._one(sandbox)
        self._cloud.call(lambda: self._cloud.cloud.stop(one))
        await self._until(lambda: one.state == "stopped")

    async def delete(self, sandbox: Sandbox) -> None:
        await self._kept(sandbox)
        one = self._one(sandbox)
        self._cloud.call(lambda: self._cloud.cloud.destroy(one))
        await self._until(lambda: one.state == "destroyed")

    async def kill_supervisor(self, sandbox: Sandbox) -> None:
        await self._kept(sandbox)
        machine = self._one(sandbox).machine
        killed = machine.kill("/runtime/__main__.py serve")
        await self._until(lambda: not set(killed) & set(machine.pids()))

    async def remains(self, sandbox: Sandbox) -> list[str]:
        one = self._cloud.cloud.sandboxes[sandbox.handle["daytona"]]
        left = [f"processes of {one.name}" for _ in one.machine.pids()[:1]]
        left += [f"sandbox {one.name}, {one.state}"] if one.state != "destroyed" else []
        token = self._app.paths.daytona / "run" / sandbox.id
        return [*left, *([f"file {token}"] if token.exists() else [])]

    def spec(self, cwd: Path) -> dict[str, Any]:
        return {}

    def place(self, relative: str) -> Path:
        volume = self._app.store.volume(self.provider, "default")
        assert volume is not None
        return self._cloud.volume_path(volume.handle["volume"]) / relative

    def marker(self, session: Session) -> Path:
        assert session.sandbox_id is not None
        sandbox = self._app.store.sandbox(session.sandbox_id)
        assert sandbox is not None
        return self._one(sandbox).machine.path("/home/agent/marker")

    def marked(self, session: Session) -> str:
        """The newest generation of HOME has it."""
        newest = max(self.place(f"agents/{session.id}/home").glob("*.tgz"))
        with tarfile.open(newest) as tar:
            content = next(tar.extractfile(member) for member in tar if Path(member.name).name == "marker")
            assert content is not None
            return content.read().decode()

    def forget(self, session: Session) -> None:
        shutil.rmtree(self.marker(session).with_name(".mock-agent"))

    def log(self, session: Session, scratch: Path) -> LogReader:
        assemble(self.place(mirror.log_path(session.id)), scratch)
        return LogReader(scratch)

    def _one(self, sandbox: Sandbox) -> Any:
        return self._cloud.cloud.sandboxes[sandbox.handle["daytona"]]

    async def _kept(self, sandbox: Sandbox) -> None:
        """Until HOME as the last turn left it is on the volume: it follows the turn's end, and what dies in between
        takes it along."""
        assert sandbox.session_id is not None
        ended = max((turn.ended_at or 0.0 for turn in self._app.store.turns(sandbox.session_id)), default=0.0)
        generations = self.place(f"agents/{sandbox.session_id}/home")

        with suppress(TimeoutError):  # the end of a turn that nobody saw out was written down by its heir
            if ended:
                await self._until(lambda: is_kept(generations, ended), KEPT_WITHIN_S)

    async def _until(self, is_so: Callable[[], bool], limit_s: float = WAIT_S) -> None:
        async with asyncio.timeout(limit_s):
            while not is_so():
                await asyncio.sleep(0.005)


class ModalPlug(HomeOnVolume):
    """A sandbox is a machine of the emulated Modal, which lives as long as its supervisor; HOME is on a volume, the log
    on another one, as whole files."""

    provider: ClassVar[str] = "modal"
    not_for: ClassVar[dict[str, str]] = {
        "test_a_sandbox_whose_maker_died_before_it_bore_its_labels_is_cleared_away": "sandboxes are made with labels",
        **dict.fromkeys(
            (
                "test_an_open_stream_of_a_session_that_is_deleted_ends_and_says_so",
                "test_a_message_that_meets_a_stop_never_ends_in_silence",
                "test_a_turn_that_a_stop_cut_off_is_interrupted_and_pins_nothing",
                "test_a_session_that_is_idle_is_put_to_sleep_under_an_open_stream",
                "test_a_conversation_that_the_agent_has_lost_is_said_and_never_hidden",
            ),
            "passes, and tells nothing of this provider that the others do not: it takes many sandboxes",
        ),
    }
    agents: ClassVar[tuple[str, ...]] = ()
    starts_again: ClassVar[bool] = False

    def __init__(self, app: App) -> None:
        self._app = app
        self._cloud = ModalEmulator.at(os.environ["MODAL_SERVER_URL"])

    async def stop(self, sandbox: Sandbox) -> None:
        await asyncio.to_thread(self._cloud.run, self._cloud.control.of(sandbox.handle["modal"]).terminate())

    async def delete(self, sandbox: Sandbox) -> None:
        await self.stop(sandbox)

    async def kill_supervisor(self, sandbox: Sandbox) -> None:
        one = self._cloud.control.of(sandbox.handle["modal"])
        assert one.machine.kill("/runtime/__main__.py serve") or one.result, "the supervisor was dead already"
        async with asyncio.timeout(WAIT_S):
            while not one.ended.is_set():
                await asyncio.sleep(0.005)

    async def remains(self, sandbox: Sandbox) -> list[str]:
        one = self._cloud.control.of(sandbox.handle["modal"])
        left = [] if one.ended.is_set() else [f"processes of {one.name}", f"sandbox {one.name}"]
        token = self._app.paths.modal / "run" / sandbox.id
        return [*left, *([f"file {token}"] if token.exists() else [])]

    def spec(self, cwd: Path) -> dict[str, Any]:
        return {}

    def place(self, relative: str) -> Path:
        volume = self._app.store.volume(self.provider, "default")
        assert volume is not None
        return self._cloud.volumes.place(volume.handle["homes"]) / relative

    def log(self, session: Session, scratch: Path) -> LogReader:
        volume = self._app.store.volume(self.provider, "default")
        assert volume is not None
        assemble(self._cloud.volumes.place(volume.handle["logs"]) / mirror.log_path(session.id), scratch)
        return LogReader(scratch)


PLUGS: dict[str, type[Plug]] = {plug.provider: plug for plug in (UnixLocalPlug, DockerPlug, DaytonaPlug, ModalPlug)}
