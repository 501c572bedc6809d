"""One sandbox of the emulator: a stand-in with a network of its own, its main process, its tunnels, what it ran."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from modal_proto import api_pb2

from tests.emulators.modal.output import Input, Output
from tests.emulators.stand_in import StandIn

_RELAY = Path(__file__).with_name("relay.py")
_PYTHON = "python3"
Status = api_pb2.GenericResult


class Process:
    """A process in a sandbox, its streams kept."""

    def __init__(self, child):
        self.child = child
        self.stdin, self.stdout, self.stderr = Input(child.stdin), Output(), Output()
        self._streams = [
            asyncio.create_task(self.stdout.fill(child.stdout)),
            asyncio.create_task(self.stderr.fill(child.stderr)),
        ]

    async def wait(self):
        """Its exit code, once all that it said is there. Who left its streams to a child does not hold it up."""
        code = await self.child.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.gather(*self._streams)
        return code


class Sandbox:
    """``result`` is None while it runs. ``mounts`` are (directory of a volume, where it is mounted, read-only)."""

    def __init__(self, request, root: Path, tls, *, image_env, layers, mounts, egress, reach, lag):
        self.definition = request.definition
        self.app_id = request.app_id
        self.tags = {tag.tag_name: tag.tag_value for tag in request.tags}
        self.id = f"sb-{secrets.token_hex(13).upper()}"
        self.task_id = f"ta-{secrets.token_hex(13).upper()}V"
        self.name = self.definition.name
        self.created_at = time.time()
        self.result = None
        self.ended = asyncio.Event()
        self.execs: dict[str, Process] = {}
        self.tunnels: dict[int, int] = {}
        self._root = root / self.id
        self._tls = tls
        self._mounts = [
            (place, self._copy(n, place) if lag else place, at, ro) for n, (place, at, ro) in enumerate(mounts)
        ]
        binds = {at: (seen, "ro") if read_only else seen for _, seen, at, read_only in self._mounts}
        self.machine = StandIn(self._root, binds)
        for path, data, mode in layers:
            _put(self._root / path.lstrip("/"), data, mode)
        self._env = dict(image_env)
        for source in request.secret_sources:
            self._env.update(source.env.contents)
        self._egress = egress
        self._reach = reach
        self._servers = []
        self._tasks: set[asyncio.Task] = set()

    def _copy(self, number, place):
        copy = self._root / f"volume-{number}"
        shutil.copytree(place, copy, symlinks=True)
        return copy

    async def reload(self):
        """It sees what others have committed; what it has written itself is committed first."""
        await asyncio.to_thread(self.commit)
        for place, seen, _, _ in self._mounts:
            if seen != place:
                await asyncio.to_thread(shutil.copytree, place, seen, symlinks=True, dirs_exist_ok=True)

    def commit(self):
        """What it wrote to volumes becomes the volumes."""
        for place, seen, _, read_only in self._mounts:
            if seen != place and not read_only:
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(seen, place, symlinks=True)

    async def start(self):
        await asyncio.to_thread(self.machine.start)
        self._relay = await self._start_relay()
        for spec in self.definition.open_ports.ports:
            await self._open_tunnel(spec.port)
        self.main = await self.spawn(self.definition.entrypoint_args, {}, self.definition.workdir or "/")
        self._keep(self._follow())
        self._keep(self._expire())

    def _keep(self, work):
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_relay(self):
        door = self._root / "net"
        user = ["--preserve-credentials", "-U"] if os.getuid() else []
        space = ["nsenter", "-t", str(self.machine._init), *user, "--"] if user else []
        ports = [] if self._closed else [str(port) for port in self._reach]
        argv = [*space, "unshare", "-n", _PYTHON, "-IS", str(_RELAY), str(door), str(self._egress), *ports]
        relay = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        assert await relay.stdout.readline() == b"up\n"
        return relay

    @property
    def _closed(self):
        return self.definition.network_access.network_access_type != api_pb2.NetworkAccess.OPEN

    async def spawn(self, argv, env, cwd):
        user = ["--preserve-credentials", "-U"] if os.getuid() else []
        values = {"HOME": "/root", **self._env, **env}
        command = self.machine.argv(argv, env=values, cwd=cwd)
        pipe = asyncio.subprocess.PIPE
        argv = ["nsenter", "-t", str(self._relay.pid), *user, "-n", "--", *command]
        return Process(await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe))

    async def _open_tunnel(self, port):
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.configure_cert(context)

        async def serve(reader, writer):
            try:
                to, out = await asyncio.open_unix_connection(self._root / "net")
                out.write(port.to_bytes(2, "big"))
                await _join((reader, writer), (to, out))
            except OSError:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        self._servers.append(server)
        self.tunnels[port] = server.sockets[0].getsockname()[1]

    async def _follow(self):
        code = await self.main.wait()
        status = Status.GENERIC_STATUS_SUCCESS if code == 0 else Status.GENERIC_STATUS_FAILURE
        await self._end(status, code, commit=True)

    async def _expire(self):
        await asyncio.sleep(self.definition.timeout_secs)
        await self._end(Status.GENERIC_STATUS_TIMEOUT, 124, commit=True)

    async def terminate(self, *, commit=True):
        await self._end(Status.GENERIC_STATUS_TERMINATED, 137, commit=commit)

    async def _end(self, status, code, *, commit):
        if self.result is not None:
            return
        self.result = Status(status=status, exitcode=code % 256)
        await asyncio.to_thread(self.machine.stop)
        with suppress(ProcessLookupError):
            self._relay.kill()
        await self._relay.wait()
        for server in self._servers:
            server.close()
        for process in (self.main, *self.execs.values()):
            await process.wait()
        if commit:
            await asyncio.to_thread(self.commit)
        await asyncio.to_thread(self.machine.delete)
        self.ended.set()

    async def close(self):
        await self.terminate(commit=False)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _put(path, data, mode):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode or 0o644)


async def _join(one, other):
    """Two streams become one, until either side has said all in both directions."""
    await asyncio.gather(_pump(one[0], other[1]), _pump(other[0], one[1]))


async def _pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        with suppress(OSError, RuntimeError):
            writer.close()
