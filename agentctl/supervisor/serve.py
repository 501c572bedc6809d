"""The ``serve`` entry point: read the Boot line from stdin, listen, say Ready, and live (``life.py``).

Ready is said as soon as the listener is there, after a tenth of what a start costs: who connects meanwhile is answered
when the rest is imported. Those imports do not wait for the Boot line either, so that a host may start a supervisor
early and tell it later what for; end of file instead means that it was not needed. Nothing slow may be imported here.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
import threading
from importlib import import_module
from typing import Any

from agentctl.supervisor import agent_user, late_modules, process_table

Json = dict[str, Any]
_IMPATIENT_S = 0.0005
"""How long the importing thread may keep the interpreter from the one that starts the agent (usually 5 ms)."""

_BACKLOG = 128


def main() -> int:
    late_modules.begin()
    imports = threading.Thread(target=_import_all, name="imports")
    imports.start()
    try:
        _serve()
    except BaseException:
        imports.join()  # what it says of an end in its midst would be taken for the reason
        raise
    sys.stderr.flush()
    os._exit(0)  # a thread or an executor that hangs must not keep a sandbox alive


def _serve() -> None:
    line = sys.stdin.buffer.readline()
    if not line:
        return
    told = json.loads(line)
    if told.get("agent_uid") is not None and told.get("agent_gid") is not None:
        agent_user.act_for(told["agent_uid"], told["agent_gid"])
    listener = _listener(told["listen"])
    _say_ready(listener, told["listen"])
    life = import_module("agentctl.supervisor.life")  # waits for the thread that imports it
    life.live(line, listener)


def _import_all() -> None:
    """What fails here fails again, and is told, where it is needed. What was imported stays: the collector of garbage
    is spared it, now and later."""
    patient_s = sys.getswitchinterval()
    sys.setswitchinterval(_IMPATIENT_S)
    gc.disable()
    try:
        for name in ("life", "http_server"):
            import_module(f"agentctl.supervisor.{name}")
    finally:
        late_modules.end()
        gc.freeze()
        gc.enable()
        sys.setswitchinterval(patient_s)


def _listener(listen: Json) -> socket.socket:
    if "unix" in listen:
        listener = _bound_to_path(listen["unix"], listen.get("mode", 0o600))
    else:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((listen["host"], listen["port"]))
    listener.listen(_BACKLOG)
    return listener


def _bound_to_path(path: str, mode: int) -> socket.socket:
    if os.path.lexists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, mode)
    return listener


def _say_ready(listener: socket.socket, listen: Json) -> None:
    """``wire.Ready`` in one line, then stdin and stdout are closed for good: the host waits for the line, not for the
    end of file."""
    if "port" in listen:
        listen = {**listen, "port": listener.getsockname()[1]}
    me = process_table.row(os.getpid())
    ready = {
        "pid": os.getpid(),
        "start_ticks": me.start_ticks if me else 0,
        "boot_id": process_table.boot_id() if me else "",
        "listen": listen,
    }
    sys.stdout.buffer.write(json.dumps(ready).encode() + b"\n")
    sys.stdout.buffer.flush()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
