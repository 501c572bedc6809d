"""The ``serve`` entry point: read the Boot line from stdin, listen, say Ready, go away when told or when idle.

The heavy imports do not wait for the Boot line, so that a host may start a supervisor early and tell it later what for;
nor does the agent of the Boot line's session wait for them. End of file instead means that it was not needed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import ModuleType

from agentctl.supervisor.cgroups import join_cgroup
from agentctl.supervisor.processes import become_subreaper
from agentctl.supervisor.supervisor import Supervisor
from agentctl.wire import Boot

_IMPATIENT_S = 0.0005
"""How long the importing thread may keep the interpreter from the one that starts the agent (usually 5 ms)."""


def main() -> int:
    patient_s = sys.getswitchinterval()
    sys.setswitchinterval(_IMPATIENT_S)
    http_server = ThreadPoolExecutor(1).submit(import_module, "agentctl.supervisor.http_server")
    http_server.add_done_callback(lambda _: sys.setswitchinterval(patient_s))
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    boot = Boot.from_line(line)
    become_subreaper()
    if boot.agent_uid is not None and boot.agent_gid is not None:
        from agentctl.supervisor import agent_user

        agent_user.act_for(boot.agent_uid, boot.agent_gid)
    if boot.cgroup:
        join_cgroup(boot.cgroup)
    asyncio.run(_serve(boot, http_server))
    sys.stderr.flush()
    os._exit(0)  # a thread or an executor that hangs must not keep a sandbox alive


async def _serve(boot: Boot, http_server: Future[ModuleType]) -> None:
    if boot.agent_uid is not None:
        from agentctl.supervisor.agent_user import worker_threads

        asyncio.get_running_loop().set_default_executor(worker_threads())
    supervisor = Supervisor(boot)
    listener = _listen(boot)
    try:
        supervisor.begin()
        server = (await asyncio.wrap_future(http_server)).Server(supervisor, boot, listener)
        await server.serve(sockets=[listener])
    finally:
        await supervisor.close()


def _listen(boot: Boot) -> socket.socket:
    if "unix" in boot.listen:
        path = Path(boot.listen["unix"])
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(boot.listen.get("mode", 0o600))
        return listener
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((boot.listen["host"], boot.listen["port"]))
    return listener
