"""A supervisor's life once it listens: the session that it was started for at once, requests as soon as the HTTP server
is imported, and its end."""

from __future__ import annotations

import asyncio
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from types import ModuleType

from agentctl.supervisor import agent_user
from agentctl.supervisor.cgroups import join_cgroup
from agentctl.supervisor.processes import become_subreaper
from agentctl.supervisor.supervisor import Supervisor
from agentctl.wire import Boot


def live(boot_line: bytes, listener: socket.socket) -> None:
    """Return when it has left and every process of its sandbox but itself is dead."""
    boot = Boot.from_line(boot_line)
    become_subreaper()
    if boot.agent_uid is not None and boot.agent_gid is not None:
        agent_user.start_all_as(boot.agent_uid, boot.agent_gid)
    if boot.cgroup:
        join_cgroup(boot.cgroup)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else asyncio takes it, too, and we take it from there at some cost
    asyncio.run(_serve(boot, listener))


async def _serve(boot: Boot, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    if boot.agent_uid is not None:
        loop.set_default_executor(agent_user.worker_threads())
    supervisor = Supervisor(boot)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.leave, "terminated")
    try:
        supervisor.begin()
        # The session's agent starts meanwhile.
        http_server: ModuleType = await loop.run_in_executor(
            ThreadPoolExecutor(1), import_module, "agentctl.supervisor.http_server"
        )
        await http_server.Server(supervisor, boot).serve(sockets=[listener])
    finally:
        await supervisor.close()
