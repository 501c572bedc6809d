"""Daytona with hundreds of sandboxes on a small machine: most of them are light ones, and now and then something fails.

A light sandbox has files, labels, states and volumes as any, but no processes: the few commands by which the provider
prepares one, starts and stops a supervisor and deletes from a volume are done here, and its supervisor is a few lines
in this process that know health and shutdown, behind the real token and the emulated preview proxy. Any other command
gets a machine to run in.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from starlette.responses import JSONResponse

from agentctl.providers.daytona import place
from agentctl.wire import TOKEN_HEADER, Boot, Ready
from tests.emulators.daytona import DaytonaEmulator, Fault
from tests.emulators.daytona.cloud import Cloud
from tests.emulators.daytona.preview import Previews
from tests.emulators.daytona.toolbox import Toolbox
from tests.emulators.stand_in import StandIn

LIGHT = "light"
"""The snapshot of light sandboxes; it has the supervisor already."""


@dataclass
class EveryNth(Fault):
    """For ever, and only for one in ``nth``."""

    nth: int = 10
    seen: int = 0

    def meets(self, method, path):
        if not super().meets(method, path):
            return False
        self.seen += 1
        return self.seen % self.nth == 0


def weather():
    """What goes wrong at Daytona on a bad day."""
    forever = {"times": 10**9}
    limited = {"status": 429, "headers": {"Retry-After-sandbox-create": "0.1"}}
    return [
        EveryNth("POST", "/api/sandbox$", **limited, nth=11, **forever),
        EveryNth("POST", "/api/sandbox$", drop=True, after=True, nth=13, **forever),
        EveryNth("POST", "/api/sandbox$", status=502, after=True, nth=17, **forever),
        EveryNth("POST", "/process/execute$", drop=True, nth=61, **forever),
        EveryNth("POST", "/bulk-upload$", status=500, nth=41, **forever),
        EveryNth("GET", "/api/sandbox/[^/]+$", status=503, nth=59, **forever),
        EveryNth("DELETE", "/api/sandbox/", status=500, nth=19, **forever),
        EveryNth("GET", "/api/volumes", drop=True, nth=47, **forever),
        EveryNth("GET", "/preview-url$", status=429, headers={"Retry-After": "0.1"}, nth=37, **forever),
    ]


class Fleet(DaytonaEmulator):
    """``key`` names the bundle of the supervisor that light sandboxes say they have."""

    def __init__(self, root, key):
        super().__init__(root)
        self.cloud = FleetCloud(root)
        self.cloud.snapshots[LIGHT] = None
        self.previews = LightPreviews()
        self._key = key

    def _toolbox(self):
        return LightToolbox(self.cloud, self.commands, self.uploads, self._key)

    def living(self, account_key):
        """Label of the session or sandbox → Daytona's ids of what there is for it, whatever state it is in."""
        found = {}
        for sandbox in self.sandboxes(account_key):
            labels = place.users_labels(sandbox.labels)
            owner = labels.get("session") or labels.get("sandbox") or "helper"
            if sandbox.state not in ("destroying", "destroyed"):
                found.setdefault(owner, []).append(sandbox.id)
        return found


class FleetCloud(Cloud):
    def create(self, account, body):
        sandbox = super().create(account, body)
        if body.get("snapshot") == LIGHT or body["labels"].get(place.ROLE) == "shelf":
            sandbox.machine = LightMachine(sandbox.machine)
        return sandbox


class LightMachine(StandIn):
    """Only its files are there, until ``in_earnest``."""

    def __init__(self, machine):
        super().__init__(machine.root, machine.binds)
        self.supervisor = None

    def start(self):
        pass

    def in_earnest(self):
        super().start()

    def stop(self):
        supervisor, self.supervisor = self.supervisor, None
        if supervisor is not None:
            supervisor.end_soon()
        super().stop()


class LightToolbox(Toolbox):
    def __init__(self, cloud, commands, uploads, key):
        super().__init__(cloud, commands, uploads)
        self._key = key

    async def execute(self, request):
        machine, command = self._sandbox(request).machine, (await request.json())["command"]
        if not isinstance(machine, LightMachine):
            return await super().execute(request)
        self._commands.append(command.encode())
        for mark, answer in (
            ("command -v python3", self._prepare),
            ("setsid sh -c", self._start),
            ("kill ", self._stop),
            (f"rm -rf {place.WHOLE}/", self._delete),
        ):
            if mark in command:
                return JSONResponse({"exitCode": 0, "result": await answer(machine, command)})
        await asyncio.to_thread(machine.in_earnest)
        return await super().execute(request)

    async def _prepare(self, machine, command):
        for inside in (place.RUN, place.LOG, place.HOME):
            machine.path(inside).mkdir(parents=True, exist_ok=True)
        version, env = list(sys.version_info[:3]), {"PATH": "/usr/bin"}
        known = {"python": "/usr/bin/python3", "version": version}
        return json.dumps({**known, "libc": "glibc", "machine": os.uname().machine, "env": env}) + f"\n{self._key}"

    async def _start(self, machine, command):
        told = machine.path(f"{place.RUN}/boot")
        boot = Boot.from_line(told.read_bytes())
        told.unlink()
        machine.supervisor = await LightSupervisor.begun(boot, machine.path(place.ENDED))
        return Ready(pid=1, start_ticks=1, boot_id="light", listen=boot.listen).to_line().decode()

    async def _stop(self, machine, command):
        if machine.supervisor is not None:
            machine.supervisor.leave()
        return ""

    async def _delete(self, machine, command):
        [relative] = set(re.findall(rf"{place.WHOLE}/([\w/]+)", command))
        await asyncio.to_thread(shutil.rmtree, machine.path(f"{place.WHOLE}/{relative}"), ignore_errors=True)
        return ""


class LightPreviews(Previews):
    """Light supervisors listen where there is room, so that hundreds of them do not meet."""

    async def url(self, sandbox, port):
        supervisor = getattr(sandbox.machine, "supervisor", None)
        return await super().url(sandbox, port if supervisor is None else supervisor.port)


class LightSupervisor:
    """Health and shutdown, for who has the token; ``ended`` is written when it is over."""

    def __init__(self, boot, ended):
        self._boot = boot
        self._ended = ended
        self._began = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._writers = set()

    @classmethod
    async def begun(cls, boot, ended):
        self = cls(boot, ended)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def leave(self):
        self._ended.write_text("0\n")
        self.end()

    def end(self):
        self._server.close()
        for writer in self._writers:
            writer.close()

    def end_soon(self):
        """From any thread."""
        with suppress(RuntimeError):  # the emulator has ended
            self._loop.call_soon_threadsafe(self.end)

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = [line.partition(": ") for line in head.splitlines()[1:]]
                headers = {name.lower(): value for name, _, value in lines}
                await reader.readexactly(int(headers.get("content-length", 0)))
                status, body = self._answer(head.split()[:2], headers)
                data = json.dumps(body).encode()
                writer.write(b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\n" % status)
                writer.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
                await writer.drain()
                if head.startswith("POST /v1/shutdown"):
                    self.leave()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, asked, headers):
        if headers.get(TOKEN_HEADER.lower()) != self._boot.token:
            return 401, {}
        if asked == ["POST", "/v1/shutdown"]:
            return 200, {}
        assert asked == ["GET", "/v1/health"], asked
        idle_s = round(time.monotonic() - self._began, 1)
        return 200, {"status": "ok", "sandbox_id": self._boot.sandbox_id, "sessions": 0, "idle_s": idle_s}
