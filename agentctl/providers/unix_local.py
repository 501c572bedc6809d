"""Sandboxes on this machine: a supervisor's process tree with a HOME, a TMPDIR and a socket of its own.

It is no wall: agents run as the user (``boundary: none``). ``<state>/run/<sandbox id>/`` (0700) holds ``token``,
``labels.json``, ``supervisor.log``, ``tmp/`` and the socket.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import ids
from agentctl.errors import (
    ProviderUnavailable,
    SandboxError,
    SandboxNotFound,
    SupervisorUnreachable,
    UsageError,
    VolumeNotFound,
)
from agentctl.model import Volume
from agentctl.paths import StatePaths, state_errors
from agentctl.providers.base import (
    NO_LABELS,
    Capabilities,
    Damaged,
    Endpoint,
    Found,
    SandboxSpec,
    SandboxState,
    unheard,
)
from agentctl.providers.boot_talk import boot_up
from agentctl.providers.local_environment import agent_environment, proxy_secrets
from agentctl.providers.prespawn import LOG_NAME, Prespawned, prespawn
from agentctl.providers.trees import confined, make_private_directory, remove_tree, write_private
from agentctl.supervisor.cgroups import cgroup_pids, create_cgroup, kill_cgroup, remove_cgroup
from agentctl.supervisor.processes import ProcessIdentity, end_all, marked, reap
from agentctl.wire import SOCKET_DIRECTORY, Boot

if TYPE_CHECKING:
    from agentctl.supervisor.files.tree import Files

Json = dict[str, Any]
READY_TIMEOUT_S = 30.0
STOP_GRACE_S = 10.0
"""A supervisor needs up to 5 s for its own orderly end: agents stopped, log flushed."""

_LEFTOVER_GRACE_S = 2.0
_LONGEST_SOCKET_PATH = 100  # 104 bytes with the final NUL on macOS, 108 on Linux
_LABELS = "labels.json"
_VOLUME_LABELS = "volume-labels"
"""A directory of the state directory's: a file a volume, of the same name."""


class UnixLocalProvider:
    """Implements ``Provider``. A handle is ``{"run_dir", "pid", "start_ticks", "boot_id", "socket", "cgroup"}``."""

    name = "unix_local"
    capabilities = Capabilities(default_cwd=None, boundary="none", local_volumes=True)

    def __init__(self, paths: StatePaths) -> None:
        self._paths = paths
        self._prespawned: Prespawned | None = None

    def use(self, prespawned: Prespawned) -> None:
        """Let the ``create`` of that sandbox id take this process instead of spawning one."""
        self._prespawned = prespawned

    async def check(self) -> None:
        if sys.platform == "win32" or not sys.executable:
            raise ProviderUnavailable(
                "unix_local needs a Unix system and a Python interpreter that it can start.",
                hint="Use another provider: `--provider docker`.",
            )
        self._paths.ensure()

    # sandboxes
    async def create(self, spec: SandboxSpec) -> Json:
        spawned = self._take(spec.sandbox_id) or prespawn(self._paths, spec.sandbox_id)
        handle: Json = {"socket": None, "cgroup": None}
        try:
            handle = self._handle(spawned)
            boot = self._boot(spec, handle)
            write_private(spawned.run_dir / "token", boot.token)
            about = {"labels": spec.labels, "created_at": time.time(), "handle": handle}
            write_private(spawned.run_dir / _LABELS, json.dumps(about))
            await boot_up(spawned, boot, READY_TIMEOUT_S)
        except BaseException:
            # No await: a second cancellation must not stop this. Before Ready the supervisor has no children.
            spawned.discard()
            _forget(handle)
            raise
        return handle

    async def inspect(self, handle: Json) -> SandboxState:
        sandbox_id, process = _sandbox_id(handle), _process(handle)
        facts: Json = {
            "boundary": "none",
            "sweep": _sweep_of(handle),
            "transport": f"unix socket {handle.get('socket')}",
            "run_dir": str(self._run_dir(handle)),
        }
        if process is not None and process.is_alive():
            return SandboxState(status="running", facts={**facts, "pid": process.pid})
        left = marked(sandbox_id)
        if left:
            return SandboxState(
                status="stopped", detail=f"the supervisor is gone; {len(left)} of its processes run on", facts=facts
            )
        if self._run_dir(handle).is_dir():
            return SandboxState(status="stopped", detail="the supervisor has ended", facts=facts)
        return SandboxState(status="missing")

    async def endpoint(self, handle: Json) -> tuple[Endpoint, str]:
        process = _process(handle)
        try:
            token = (self._run_dir(handle) / "token").read_text()
        except FileNotFoundError:
            process = None
        if process is None or not process.is_alive():
            raise SandboxNotFound(
                f"Sandbox {_sandbox_id(handle)} is gone.", hint="The next message to its session brings a new one."
            )
        socket = handle["socket"]

        async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            try:
                return await asyncio.open_unix_connection(socket)
            except OSError as e:
                raise SupervisorUnreachable(
                    f"The supervisor does not answer on {socket}: {e.strerror}.",
                    hint="The next message to its session brings a new one.",
                ) from e

        return Endpoint(dial=dial), token

    async def remove(self, handle: Json, *, at_once: bool = False) -> None:
        sandbox_id, process = _sandbox_id(handle), _process(handle)
        if process is not None:
            grace_s = 0 if at_once else STOP_GRACE_S
            await end_all(lambda: [process] if process.is_alive() else [], grace_s=grace_s)
            if ProcessIdentity.of(process.pid) == process:
                reap(process.pid)
        left = await end_all(lambda: _processes(sandbox_id, handle), grace_s=_LEFTOVER_GRACE_S)
        if handle.get("cgroup"):
            await asyncio.to_thread(kill_cgroup, handle["cgroup"])
        if left:
            raise SandboxError(
                f"Processes of sandbox {sandbox_id} cannot be ended: {', '.join(str(p.pid) for p in left)}.",
                hint="They hang in the kernel or belong to another user; end them, then try again.",
            )
        _forget(handle)
        await asyncio.to_thread(remove_tree, self._run_dir(handle))

    async def logs(self, handle: Json, *, max_bytes: int) -> bytes:
        try:
            with (self._run_dir(handle) / LOG_NAME).open("rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - max_bytes, 0))
                return file.read(max_bytes)
        except FileNotFoundError:
            raise SandboxNotFound(f"Sandbox {_sandbox_id(handle)} is gone, and its log with it.") from None

    async def find_by_labels(self, labels: dict[str, str]) -> AsyncIterator[Found]:
        for run_dir in sorted(self._paths.run.glob("*")):
            found = found_in(run_dir)
            if found is not None and labels.items() <= found.labels.items():
                yield found

    def _take(self, sandbox_id: str) -> Prespawned | None:
        if self._prespawned is None or self._prespawned.sandbox_id != sandbox_id:
            return None
        taken, self._prespawned = self._prespawned, None
        return taken

    def _handle(self, spawned: Prespawned) -> Json:
        process = ProcessIdentity.of(spawned.pid)
        assert process is not None, "an unreaped child has an identity"
        return {
            "run_dir": str(spawned.run_dir),
            "pid": process.pid,
            "start_ticks": process.start_ticks,
            "boot_id": process.boot_id,
            "socket": _socket_path(spawned.run_dir),
            "cgroup": create_cgroup(f"agentctl-{spawned.sandbox_id}"),
        }

    def _boot(self, spec: SandboxSpec, handle: Json) -> Boot:
        home, log = self.volume_path(spec.volume, spec.home), self.volume_path(spec.volume, spec.log)
        for directory in (home, log):
            make_private_directory(directory)
        tmp = str(Path(handle["run_dir"]) / "tmp")
        environment = agent_environment(
            os.environ, spec.boot.agent_env, sandbox_id=spec.sandbox_id, home=str(home), tmp=tmp
        )
        return replace(
            spec.boot,
            listen={"unix": handle["socket"]},
            log_root=str(log),
            home=str(home),
            tmp=tmp,
            agent_env=environment,
            secrets=(*spec.boot.secrets, *proxy_secrets(os.environ)),
            cgroup=handle["cgroup"],
        )

    def _run_dir(self, handle: Json) -> Path:
        """Always below our own ``run``, whatever a handle says: it is what ``remove`` deletes."""
        return self._paths.run / _sandbox_id(handle)

    # volumes
    async def volume_create(self, name: str, labels: Mapping[str, str] = NO_LABELS) -> Volume:
        ids.require_name(name, "a volume")
        is_new = not (self._paths.volumes / name).exists()
        make_private_directory(self._paths.volumes / name)
        if is_new:
            make_private_directory(self._paths.root / _VOLUME_LABELS)
            write_private(self._paths.root / _VOLUME_LABELS / name, json.dumps(dict(labels)))
        return self._volume(name)

    def volume_labels(self, name: str) -> dict[str, str]:
        """Those that it was made with; none where nobody kept them."""
        try:
            found = json.loads((self._paths.root / _VOLUME_LABELS / name).read_text())
        except (OSError, ValueError):
            return {}
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}

    async def volume_list(self) -> list[Volume]:
        if not self._paths.volumes.is_dir():
            return []
        return [self._volume(name) for name in sorted(os.listdir(self._paths.volumes)) if ids.is_name(name)]

    async def volume_remove(self, volume: Volume) -> None:
        await asyncio.to_thread(remove_tree, self._volume_root(volume))
        (self._paths.root / _VOLUME_LABELS / volume.name).unlink(missing_ok=True)

    def volume_path(self, volume: Volume, relative: str) -> Path:
        return confined(self._volume_root(volume), relative)

    @asynccontextmanager
    async def volume_reading(self, volume: Volume, relative: str, damaged: Damaged = unheard) -> AsyncIterator[Path]:
        yield self.volume_path(volume, relative)

    @asynccontextmanager
    async def volume_files(self, volume: Volume) -> AsyncIterator[Files]:
        from agentctl.supervisor.files.space import FileSpace
        from agentctl.supervisor.files.tree import Files

        root = self._volume_root(volume)
        if not root.is_dir():
            raise VolumeNotFound(
                f"The volume {volume.name} is gone: there is no {root}.",
                hint=f"Somebody removed it. Forget it with: agentctl volumes delete {volume.name}",
            )
        yield Files(FileSpace(str(root), str(root)))

    async def session_remove(self, volume: Volume, session_id: str) -> None:
        if not ids.is_name(session_id):
            raise UsageError(f"{session_id!r} is not the id of a session.")
        await asyncio.to_thread(remove_tree, self.volume_path(volume, "agents") / session_id)

    async def workspace_remove(self, volume: Volume, name: str) -> None:
        ids.require_name(name, "a workspace")
        await asyncio.to_thread(remove_tree, self.volume_path(volume, "workspaces") / name)

    def _volume(self, name: str) -> Volume:
        path = self._paths.volumes / name
        kept = self._paths.root / _VOLUME_LABELS / name
        try:
            created_at = kept.stat().st_mtime
        except FileNotFoundError:  # an older one: when something in it changed last
            created_at = path.stat().st_ctime
        return Volume(name=name, provider=self.name, handle={"path": str(path)}, created_at=created_at)

    def _volume_root(self, volume: Volume) -> Path:
        ids.require_name(volume.name, "a volume")
        return self._paths.volumes / volume.name


def _sandbox_id(handle: Json) -> str:
    name = Path(handle["run_dir"]).name
    if not ids.is_name(name):
        raise SandboxError(f"{handle['run_dir']!r} is not the directory of a sandbox.")
    return name


def _process(handle: Json) -> ProcessIdentity | None:
    """The supervisor; None for a sandbox that never came so far."""
    if not handle.get("pid"):
        return None
    return ProcessIdentity(pid=handle["pid"], start_ticks=handle["start_ticks"], boot_id=handle["boot_id"])


def _processes(sandbox_id: str, handle: Json) -> list[ProcessIdentity]:
    """Everything that still runs in the sandbox, however it got away from its parents."""
    members = [ProcessIdentity.of(pid) for pid in cgroup_pids(handle["cgroup"])] if handle.get("cgroup") else []
    found = {process.pid: process for process in [*marked(sandbox_id), *filter(None, members)]}
    return [process for process in found.values() if process.is_alive()]


def _sweep_of(handle: Json) -> str:
    """By what a process is found that left the tree, said as it is on this machine."""
    if handle.get("cgroup"):
        return "cgroup"
    return "environment" if sys.platform.startswith("linux") else "none"


def _socket_path(run_dir: Path) -> str:
    """In the sandbox's directory, or in a short private one where the system would not take so long a path."""
    path = str(run_dir / "sock")
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp makes a private directory in it
        with state_errors(Path(parent or tempfile.gettempdir())):
            path = str(Path(tempfile.mkdtemp(prefix=SOCKET_DIRECTORY, dir=parent)) / "sock")
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            break
        os.rmdir(os.path.dirname(path))
    return path


def _forget(handle: Json) -> None:
    """Remove what a sandbox has outside its own directory."""
    if handle.get("cgroup"):
        remove_cgroup(handle["cgroup"])
    socket = Path(handle["socket"] or "/")
    if socket.parent.name.startswith(SOCKET_DIRECTORY):
        remove_tree(socket.parent)


def found_in(run_dir: Path) -> Found | None:
    """What a sandbox's directory says; one that never came up is found without labels."""
    try:
        about = json.loads((run_dir / _LABELS).read_text())
    except FileNotFoundError:
        about = {"labels": {}, "created_at": None, "handle": {"run_dir": str(run_dir), "pid": None, "socket": None}}
    except (OSError, ValueError):
        return None
    return Found(
        sandbox_id=run_dir.name, handle=about["handle"], labels=about["labels"], created_at=about["created_at"]
    )
