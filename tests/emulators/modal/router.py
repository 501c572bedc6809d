"""The command router: the streams of a sandbox's main process, and commands run beside it."""

from __future__ import annotations

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from modal_proto import task_command_router_pb2 as sr_pb2


class Router:
    def __init__(self, control):
        self._control = control

    def _sandbox(self, task_id):
        for sandbox in self._control.sandboxes.values():
            if sandbox.task_id == task_id:
                return sandbox
        raise GRPCError(Status.NOT_FOUND, f"Task {task_id!r} not found")

    async def SandboxStdinWriteV2(self, request):
        await _write(self._sandbox(request.task_id).main, request)
        return sr_pb2.SandboxStdinWriteV2Response()

    async def SandboxStdioReadV2(self, request):
        main = self._sandbox(request.task_id).main
        is_stdout = request.file_descriptor == sr_pb2.SANDBOX_STDIO_FILE_DESCRIPTOR_STDOUT
        async for offset, data in (main.stdout if is_stdout else main.stderr).read(request.offset):
            yield sr_pb2.SandboxStdioReadV2Response(data=data, starting_offset=offset)

    async def TaskExecStart(self, request):
        sandbox = self._sandbox(request.task_id)
        if sandbox.result is not None:
            raise GRPCError(Status.NOT_FOUND, "Sandbox has already finished")
        if request.exec_id not in sandbox.execs:
            env = {name: value for source in request.secret_sources for name, value in source.env.contents.items()}
            made = await sandbox.spawn(request.command_args, env, request.workdir or "/")
            sandbox.execs[request.exec_id] = made
        return sr_pb2.TaskExecStartResponse()

    def _process(self, request):
        execs = self._sandbox(request.task_id).execs
        if request.exec_id not in execs:
            raise GRPCError(Status.NOT_FOUND, f"Exec {request.exec_id!r} not found")
        return execs[request.exec_id]

    async def TaskExecStdinWrite(self, request):
        await _write(self._process(request), request)
        return sr_pb2.TaskExecStdinWriteResponse()

    async def TaskExecStdioRead(self, request):
        process = self._process(request)
        is_stdout = request.file_descriptor == sr_pb2.TASK_EXEC_STDIO_FILE_DESCRIPTOR_STDOUT
        async for _, data in (process.stdout if is_stdout else process.stderr).read(request.offset):
            yield sr_pb2.TaskExecStdioReadResponse(data=data)

    async def TaskReloadVolumes(self, request):
        await self._sandbox(request.task_id).reload()
        return sr_pb2.TaskReloadVolumesResponse()

    async def TaskExecWait(self, request):
        code = await self._process(request).wait()
        if code < 0:
            return sr_pb2.TaskExecWaitResponse(signal=-code)
        return sr_pb2.TaskExecWaitResponse(code=code)


async def _write(process, request):
    try:
        await process.stdin.write(request.offset, request.data, eof=request.eof)
    except LookupError as e:
        raise GRPCError(Status.INVALID_ARGUMENT, str(e)) from e
