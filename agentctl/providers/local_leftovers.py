"""What sandboxes on this machine left: run directories, processes without one, sockets that nobody listens on."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from agentctl import ids
from agentctl.model import Volume
from agentctl.paths import StatePaths
from agentctl.providers.base import Found
from agentctl.providers.leftover import Leftover, of_volume
from agentctl.providers.trees import disk_bytes, remove_tree
from agentctl.providers.unix_local import UnixLocalProvider, found_in
from agentctl.supervisor import process_table
from agentctl.supervisor.processes import marked
from agentctl.wire import SANDBOX_ENV, SOCKET_DIRECTORY

_KNOCK_S = 0.2
_SETTLED_S = 600.0
"""A socket that is younger may be one on which somebody is about to listen."""


class LocalSweep:
    """Implements ``Sweeping`` for ``unix_local``."""

    def __init__(self, paths: StatePaths) -> None:
        self._paths = paths
        self._provider = UnixLocalProvider(paths)

    async def leftovers(self, origin: str) -> AsyncIterator[Leftover]:
        used: set[str] = set()
        for run_dir in sorted(self._paths.run.glob("*")):
            found = found_in(run_dir)
            if found is None:
                continue
            used.add(found.handle.get("socket") or "")
            if found.labels.get("origin", origin) == origin:
                yield await self._sandbox(found, run_dir)
        for stray in (*strays(self._paths), *dead_sockets(used)):
            yield stray
        for volume in await self._provider.volume_list():
            labels = self._provider.volume_labels(volume.name)
            if labels.get("origin", origin) == origin:
                yield of_volume(volume, labels)

    async def leftover_now(self, leftover: Leftover) -> Leftover | None:
        if leftover.kind == "sandbox":
            run_dir = self._paths.run / leftover.id
            found = found_in(run_dir) if run_dir.is_dir() else None
            return await self._sandbox(found, run_dir) if found else None
        if leftover.kind == "processes":
            return leftover if marked(leftover.sandbox_id or "") else None
        if leftover.kind == "socket":
            return leftover if is_dead_socket(Path(leftover.handle["socket"])) else None
        return leftover if (self._paths.volumes / leftover.id).is_dir() else None

    async def remove_leftover(self, leftover: Leftover) -> None:
        if leftover.kind == "sandbox":
            await self._provider.remove(leftover.handle, at_once=True)
        elif leftover.kind == "processes":
            run_dir = str(self._paths.run / (leftover.sandbox_id or ""))
            await self._provider.remove({"run_dir": run_dir, "socket": None}, at_once=True)
        elif leftover.kind == "socket":
            await asyncio.to_thread(remove_tree, Path(leftover.handle["socket"]).parent)
        else:
            await self._provider.volume_remove(Volume(name=leftover.id, provider="unix_local", handle={}, created_at=0))

    async def size_bytes(self, leftover: Leftover) -> int:
        if leftover.kind == "sandbox":
            return await asyncio.to_thread(disk_bytes, self._paths.run / leftover.id)
        if leftover.kind == "volume":
            return await asyncio.to_thread(disk_bytes, self._paths.volumes / leftover.id)
        return 0

    async def _sandbox(self, found: Found, run_dir: Path) -> Leftover:
        state = await self._provider.inspect(found.handle)
        broken = not found.handle.get("pid") or "run on" in state.detail
        return Leftover(
            kind="sandbox",
            id=found.sandbox_id,
            handle=found.handle,
            labels=found.labels,
            sandbox_id=found.sandbox_id,
            created_at=found.created_at or _made_at(run_dir),
            status="running" if state.status == "running" else "failed" if broken else "stopped",
            own=True,
        )


def strays(paths: StatePaths) -> Iterator[Leftover]:
    """Processes of sandboxes of this state directory that have no run directory any more; needs /proc. By TMPDIR they
    tell whose they are."""
    oldest: dict[str, float] = {}
    for row in process_table.rows() if process_table.HAS_PROC else ():
        environment = process_table.environment(row.pid) or b""
        sandbox_id = _variable(environment, SANDBOX_ENV)
        if row.dead or not sandbox_id or not ids.is_name(sandbox_id) or (paths.run / sandbox_id).exists():
            continue
        if _variable(environment, "TMPDIR") == str(paths.run / sandbox_id / "tmp"):
            started = _started_at(row.start_ticks)
            oldest[sandbox_id] = min(started, oldest.get(sandbox_id, started))
    for sandbox_id, started in sorted(oldest.items()):
        yield Leftover(
            kind="processes",
            id=f"processes of {sandbox_id}",
            handle={},
            labels={},
            sandbox_id=sandbox_id,
            created_at=started,
            status="failed",
            own=True,
        )


def dead_sockets(used: set[str]) -> Iterator[Leftover]:
    """The short directories of sockets that no sandbox of ours uses (``used``) and nobody listens on."""
    for parent in {tempfile.gettempdir(), "/tmp"}:  # noqa: S108 - where ``unix_local`` makes them
        for place in sorted(Path(parent).glob(f"{SOCKET_DIRECTORY}*/sock")):
            is_settled = time.time() - _changed_at(place.parent) > _SETTLED_S
            if is_settled and str(place) not in used and is_dead_socket(place):
                yield Leftover(
                    kind="socket",
                    id=str(place.parent),
                    handle={"socket": str(place)},
                    labels={},
                    sandbox_id=None,
                    created_at=_changed_at(place.parent),
                    status="failed",
                    own=False,
                )


def is_dead_socket(place: Path) -> bool:
    """Whether it is a socket of this user, alone in its directory, and refuses connections."""
    try:
        alone = os.listdir(place.parent) == [place.name]
        if not alone or not place.is_socket() or place.stat().st_uid != os.getuid():
            return False
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(_KNOCK_S)
            knock.connect(str(place))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _changed_at(directory: Path) -> float:
    try:
        return directory.stat().st_mtime
    except FileNotFoundError:  # it went meanwhile
        return time.time()


def _made_at(directory: Path) -> float:
    return directory.stat().st_ctime


def _variable(environment: bytes, name: str) -> str | None:
    _, sign, rest = environment.partition(f"\0{name}=".encode())
    return os.fsdecode(rest.partition(b"\0")[0]) if sign else None


def _started_at(start_ticks: int) -> float:
    uptime_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - uptime_s + start_ticks / os.sysconf("SC_CLK_TCK")
