"""What the emulated Daytona has: sandboxes and volumes of its accounts, and how they come to be and go."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import time
import uuid
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.emulators.daytona.objects import Objects
from tests.emulators.stand_in import StandIn

Json = dict[str, Any]
SOURCE_API = "DAYTONA_API"
_STAYS = ("started", "stopped", "archived", "error", "build_failed", "paused")


class Refused(Exception):
    """An answer of Daytona's API that is an error."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}


class Sandbox:
    """``stale`` is what ``GET`` still says of its state, and how often."""

    def __init__(self, cloud: Cloud, account: str, body: Json, binds: dict[str, Path]) -> None:
        self.cloud = cloud
        self.account = account
        self.id = str(uuid.uuid4())
        self.body = body
        self.name = body.get("name") or self.id
        self.labels = dict(body.get("labels") or {})
        self.state = "creating"
        self.error_reason: str | None = None
        self.recoverable = False
        self.stale: tuple[str, int] = ("", 0)
        self.created_at = time.time()
        self.preview_token = secrets.token_hex(16)
        self.machine = StandIn(cloud.root / "sandboxes" / self.id, binds={**cloud.images, **binds})
        (self.machine.root / "home" / "daytona").mkdir(exist_ok=True)

    def to_json(self, toolbox_url: str) -> Json:
        body = self.body
        image = body.get("buildInfo")
        moment = rfc3339(self.created_at)
        known = {
            "id": self.id,
            "organizationId": self.account,
            "name": self.name,
            "snapshot": body.get("snapshot") or (None if image else "daytona-default"),
            "user": body.get("user") or "daytona",
            "env": body.get("env") or {},
            "labels": self.labels,
            "public": bool(body.get("public")),
            "networkBlockAll": bool(body.get("networkBlockAll")),
            "networkAllowList": body.get("networkAllowList"),
            "domainAllowList": body.get("domainAllowList"),
            "kvm": False,
            "target": body.get("target") or "us",
            "cpu": body.get("cpu") or 1,
            "gpu": 0,
            "memory": body.get("memory") or 1,
            "disk": body.get("disk") or 3,
            "state": self.state,
            "desiredState": "destroyed" if self.state in ("destroying", "destroyed") else "started",
            "errorReason": self.error_reason,
            "recoverable": self.recoverable,
            "autoStopInterval": body.get("autoStopInterval", 15),
            "autoArchiveInterval": body.get("autoArchiveInterval", 10080),
            "autoDeleteInterval": body.get("autoDeleteInterval", -1),
            "volumes": body.get("volumes") or [],
            "buildInfo": {**image, "createdAt": moment, "updatedAt": moment, "snapshotRef": "ref"} if image else None,
            "createdAt": moment,
            "updatedAt": moment,
            "lastActivityAt": moment,
            "toolboxProxyUrl": toolbox_url,
        }
        return {key: value for key, value in known.items() if value is not None}

    def to_item(self, toolbox_url: str) -> Json:
        """As a list has it, with less."""
        whole = self.to_json(toolbox_url)
        return {key: value for key, value in whole.items() if key not in ("env", "volumes", "kvm", "buildInfo")}

    def become(self, state: str, error_reason: str | None = None, *, recoverable: bool = False) -> None:
        self.state, self.error_reason, self.recoverable = state, error_reason, recoverable


class Volume:
    def __init__(self, cloud: Cloud, account: str, name: str) -> None:
        self.account = account
        self.id = str(uuid.uuid4())
        self.name = name
        self.state = "pending_create"
        self.created_at = time.time()
        self.path = cloud.root / "volumes" / self.id
        self.path.mkdir(parents=True)

    def to_json(self) -> Json:
        moment = rfc3339(self.created_at)
        about = {"id": self.id, "name": self.name, "organizationId": self.account, "state": self.state}
        return {**about, "createdAt": moment, "updatedAt": moment, "errorReason": None}


class Cloud:
    """``boot_s``, ``volume_lag_s`` and ``late_s`` are how slow it is: to start a sandbox, to make a volume ready, to
    show a new sandbox. ``snapshots`` are names, and what ``/opt`` has in them. ``images`` are what every sandbox's
    image has: path → directory of this host. ``broken`` makes the next sandbox end in that state.
    ``are_vms``: sandboxes can be paused."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sandboxes: dict[str, Sandbox] = {}
        self.volumes: dict[str, Volume] = {}
        self.objects = Objects()
        self.snapshots: dict[str, Path | None] = {"daytona-default": None}
        self.reset()
        self._tasks: set[asyncio.Task[None]] = set()

    def reset(self) -> None:
        self.boot_s = 0.02
        self.volume_lag_s = 0.0
        self.late_s = 0.0
        self.images: dict[str, Path | tuple[Path, str]] = {}
        self.broken: tuple[str, str] | None = None
        self.are_vms = False

    def later(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # sandboxes
    def create(self, account: str, body: Json) -> Sandbox:
        name = body.get("name")
        if name and any(s.name == name for s in self._of(account)):
            raise Refused(409, f"Sandbox with name {name} already exists")
        snapshot = body.get("snapshot")
        if snapshot and snapshot not in self.snapshots:
            raise Refused(400, f"Snapshot {snapshot} not found. Did you add it through the Daytona Dashboard?")
        sandbox = Sandbox(self, account, body, self._binds(account, body))
        if snapshot and (has := self.snapshots[snapshot]) is not None:
            shutil.copytree(has, sandbox.machine.root / "opt", symlinks=True, dirs_exist_ok=True)
        if image := body.get("buildInfo"):
            self._build(sandbox, image)
        self.sandboxes[sandbox.id] = sandbox
        self.later(self._start(sandbox))
        return sandbox

    def _build(self, sandbox: Sandbox, image: Json) -> None:
        hashes, scratch = image.get("contextHashes") or [], self.root / "builds" / sandbox.id
        try:
            self.objects.build(sandbox.account, hashes, image["dockerfileContent"], scratch, sandbox.machine.root)
        except (KeyError, OSError) as e:
            raise Refused(400, f"The build context lacks {e}") from None

    def _binds(self, account: str, body: Json) -> dict[str, Path]:
        binds = {}
        for mount in body.get("volumes") or ():
            volume = self.volume(account, mount["volumeId"])
            if volume.state != "ready":
                raise Refused(400, f"Volume '{volume.name}' is not in a ready state")
            path = volume.path / (mount.get("subpath") or "")
            path.mkdir(parents=True, exist_ok=True)
            binds[mount["mountPath"]] = path
        return binds

    async def _start(self, sandbox: Sandbox) -> None:
        await asyncio.sleep(self.boot_s)
        if sandbox.state not in ("creating", "starting", "restoring"):
            return
        if self.broken is not None:
            (state, why), self.broken = self.broken, None
            sandbox.become(state, why)
            return
        await asyncio.to_thread(sandbox.machine.start)
        sandbox.preview_token = secrets.token_hex(16)
        sandbox.become("started")

    def get(self, account: str, id_or_name: str) -> Sandbox:
        for sandbox in self._of(account):
            if id_or_name in (sandbox.id, sandbox.name) and time.time() >= sandbox.created_at + self.late_s:
                return sandbox
        raise Refused(404, f"Sandbox with ID or name {id_or_name} not found", "NOT_FOUND")

    def _of(self, account: str) -> list[Sandbox]:
        return [s for s in self.sandboxes.values() if s.account == account and s.state != "destroyed"]

    def listed(self, account: str, labels: dict[str, str]) -> list[Sandbox]:
        return [s for s in self._of(account) if labels.items() <= s.labels.items()]

    async def start(self, sandbox: Sandbox) -> None:
        self._settled(sandbox, "stopped", "archived", "paused")
        if sandbox.state == "paused":
            sandbox.become("resuming")
            self.later(self._freeze(sandbox, signal.SIGCONT, "started"))
            return
        sandbox.become("restoring" if sandbox.state == "archived" else "starting")
        self.later(self._start(sandbox))

    async def pause(self, sandbox: Sandbox) -> None:
        self._settled(sandbox, "started")
        if not self.are_vms:
            raise Refused(400, "Sandboxes of this class cannot be paused")
        sandbox.become("pausing")
        self.later(self._freeze(sandbox, signal.SIGSTOP, "paused"))

    async def _freeze(self, sandbox: Sandbox, how: signal.Signals, then: str) -> None:
        for pid in sandbox.machine.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        if then == "started":
            sandbox.preview_token = secrets.token_hex(16)
        sandbox.become(then)

    async def recover(self, sandbox: Sandbox) -> None:
        self._settled(sandbox, "error")
        if not sandbox.recoverable:
            raise Refused(400, "Sandbox is not recoverable")
        sandbox.become("starting")
        self.later(self._start(sandbox))

    async def archive(self, sandbox: Sandbox) -> None:
        self._settled(sandbox, "stopped")
        sandbox.become("archiving")
        self.later(self._archive(sandbox))

    async def _archive(self, sandbox: Sandbox) -> None:
        await asyncio.sleep(self.boot_s)
        sandbox.become("archived")

    def snapshot(self, sandbox: Sandbox, name: str) -> None:
        self._settled(sandbox)
        if name in self.snapshots:
            raise Refused(409, f"Snapshot with name {name} already exists")
        sandbox.become("snapshotting")
        self.later(self._snapshot(sandbox, name))

    async def _snapshot(self, sandbox: Sandbox, name: str) -> None:
        place = self.root / "snapshots" / name
        await asyncio.to_thread(shutil.copytree, sandbox.machine.root / "opt", place, symlinks=True)
        self.snapshots[name] = place
        sandbox.become("started")

    async def stop(self, sandbox: Sandbox) -> None:
        self._settled(sandbox, "started")
        sandbox.become("stopping")
        self.later(self._stop(sandbox))

    async def _stop(self, sandbox: Sandbox) -> None:
        await asyncio.to_thread(sandbox.machine.stop)
        sandbox.become("stopped")

    async def destroy(self, sandbox: Sandbox) -> None:
        sandbox.become("destroying")
        self.later(self._destroy(sandbox))

    async def _destroy(self, sandbox: Sandbox) -> None:
        await asyncio.to_thread(sandbox.machine.delete)
        sandbox.become("destroyed")

    def _settled(self, sandbox: Sandbox, *fitting: str) -> None:
        if sandbox.state not in _STAYS:
            raise Refused(409, "Sandbox state change in progress")
        if fitting and sandbox.state not in fitting:
            raise Refused(400, "Sandbox is not in valid state")

    # volumes
    def volume(self, account: str, id_or_name: str) -> Volume:
        for volume in self.volumes.values():
            if volume.account == account and id_or_name in (volume.id, volume.name):
                return volume
        raise Refused(404, f"Volume with ID or name {id_or_name} not found")

    def create_volume(self, account: str, name: str) -> Volume:
        if any(v.account == account and v.name == name for v in self.volumes.values()):
            raise Refused(400, f"Volume with name {name} already exists")
        volume = Volume(self, account, name)
        self.volumes[volume.id] = volume
        self.later(self._volume_ready(volume))
        return volume

    async def _volume_ready(self, volume: Volume) -> None:
        await asyncio.sleep(self.volume_lag_s)
        volume.state = "ready"

    def delete_volume(self, account: str, volume_id: str) -> None:
        volume = self.volume(account, volume_id)
        mounted = (m["volumeId"] for s in self._of(account) for m in s.body.get("volumes") or ())
        if volume.id in mounted:
            raise Refused(409, f"Volume {volume.name} is in use by a sandbox")
        volume.state = "pending_delete"
        self.later(self._volume_gone(volume))

    async def _volume_gone(self, volume: Volume) -> None:
        await asyncio.sleep(self.volume_lag_s)
        await asyncio.to_thread(shutil.rmtree, volume.path, ignore_errors=True)
        self.volumes.pop(volume.id, None)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for sandbox in self.sandboxes.values():
            with suppress(OSError):
                sandbox.machine.delete()


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
