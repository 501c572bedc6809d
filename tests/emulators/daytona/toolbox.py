"""The toolbox of a sandbox: commands and files, as the daemon in it serves them."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.emulators.daytona.cloud import Cloud, Refused, Sandbox, rfc3339

Json = dict[str, Any]
EXECUTE_S = 10
_BOUNDARY = "emulated-daytona"
_HOME = {"HOME": "/home/daytona", "USER": "daytona", "LANG": "C.UTF-8", "DAYTONA_SANDBOX_USER": "daytona"}


class Toolbox:
    def __init__(self, cloud: Cloud, commands: list[bytes], uploads: list[list[str]]) -> None:
        self._cloud = cloud
        self._commands = commands
        self._uploads = uploads

    def routes(self) -> list[Route]:
        top = "/toolbox/{id}"
        return [
            Route(f"{top}/process/execute", self.execute, methods=["POST"]),
            Route(f"{top}/files/bulk-upload", self.upload, methods=["POST"]),
            Route(f"{top}/files/bulk-download", self.download, methods=["POST"]),
            Route(f"{top}/files/info", self.info),
        ]

    def _sandbox(self, request: Request) -> Sandbox:
        sandbox = self._cloud.get(request.state.account, request.path_params["id"])
        if sandbox.state != "started":
            raise Refused(400, f"sandbox is not running: {sandbox.state}")
        return sandbox

    async def execute(self, request: Request) -> Response:
        """The daemon pipes a command into the stdin of a shell, and answers when all that hold its output are done."""
        sandbox, body = self._sandbox(request), await request.json()
        self._commands.append(body["command"].encode())
        env = {**_HOME, **(sandbox.body.get("env") or {}), **(body.get("envs") or {})}
        process = await asyncio.create_subprocess_exec(
            *sandbox.machine.argv(["sh"], env=env, cwd=body.get("cwd") or "/home/daytona"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(body.get("timeout") or EXECUTE_S):
                said, _ = await process.communicate(body["command"].encode() + b"\n")
        except TimeoutError:
            raise Refused(408, "command execution timeout", "PROCESS_EXECUTION_TIMEOUT") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return JSONResponse({"exitCode": process.returncode, "result": said.decode(errors="replace")})

    async def upload(self, request: Request) -> Response:
        sandbox = self._sandbox(request)
        async with request.form() as form:
            self._uploads.append([str(value) for name, value in form.multi_items() if name.endswith(".path")])
            for name, value in form.multi_items():
                if name.endswith(".file"):
                    assert isinstance(value, UploadFile)
                    path = self._path(sandbox, str(form[name.removesuffix("file") + "path"]))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    await asyncio.to_thread(path.write_bytes, await value.read())
        return Response(status_code=200)

    async def download(self, request: Request) -> Response:
        sandbox, parts = self._sandbox(request), []
        for name in (await request.json())["paths"]:
            try:
                content, part, kind = self._path(sandbox, name).read_bytes(), "file", "application/octet-stream"
            except FileNotFoundError:
                gone = b'{"message": "file not found", "statusCode": 404, "code": "FILE_NOT_FOUND"}'
                content, part, kind = gone, "error", "application/json"
            head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{part}"; filename="{name}"\r\n'
            parts.append(f"{head}Content-Type: {kind}\r\n\r\n".encode() + content + b"\r\n")
        body = b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
        return Response(body, media_type=f"multipart/form-data; boundary={_BOUNDARY}")

    async def info(self, request: Request) -> Response:
        path = self._path(self._sandbox(request), request.query_params["path"])
        try:
            status = path.stat()
        except FileNotFoundError:
            raise Refused(404, f"{request.query_params['path']}: no such file", "FILE_NOT_FOUND") from None
        return JSONResponse(
            {
                "name": path.name,
                "path": request.query_params["path"],
                "size": status.st_size,
                "isDir": stat.S_ISDIR(status.st_mode),
                "mode": stat.filemode(status.st_mode),
                "permissions": f"{stat.S_IMODE(status.st_mode):04o}",
                "owner": "daytona",
                "group": "daytona",
                "modTime": time.ctime(status.st_mtime),
                "modifiedAt": rfc3339(status.st_mtime),
            }
        )

    def _path(self, sandbox: Sandbox, inside: str) -> Path:
        try:
            return sandbox.machine.path(inside)
        except LookupError as e:
            raise Refused(400, str(e)) from None
