"""Who holds a lease: ``host:boot_id:pid:start_ticks``, so that a dead holder is told from a living one.

``host`` is ``name/machine/processes``: the host's name, the start of its machine id, and the name space that its
process ids count in, for two containers on one machine may have all the rest in common.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from agentctl.supervisor.processes import ProcessIdentity

_MACHINE_ID = Path("/etc/machine-id")
_MACHINE_ID_CHARS = 12


def this_holder() -> str:
    """The holder string of the calling process."""
    return holder_of(ProcessIdentity.of(os.getpid()))


def holder_of(process: ProcessIdentity | None) -> str:
    """The holder string of a process of this host."""
    assert process is not None, "a living process has an identity"
    return f"{host_id()}:{process.boot_id}:{process.pid}:{process.start_ticks}"


def is_dead(holder: str) -> bool:
    """Whether ``holder`` is known to be gone: a process of this host that lives no more, or that an earlier boot of
    this very machine had.

    Of another machine nothing is known, so its lease has to expire; nor of this one where it has no machine id, since a
    host name alone does not tell a rebooted machine from its twin.
    """
    try:
        host, boot_id, pid, ticks = holder.rsplit(":", 3)
        process = ProcessIdentity(pid=int(pid), start_ticks=int(ticks), boot_id=boot_id)
    except ValueError:
        return False
    me = ProcessIdentity.of(os.getpid())
    if host != host_id() or me is None:
        return False
    if boot_id != me.boot_id:
        return _machine() != ""
    return not process.is_alive()


@lru_cache(maxsize=1)
def host_id() -> str:
    """What processes have in common that can see each other, and that see each other's end."""
    processes = ""
    with suppress(OSError):
        processes = os.readlink("/proc/self/ns/pid").removeprefix("pid:[").removesuffix("]")
    return f"{os.uname().nodename}/{_machine()}/{processes}"


def _machine() -> str:
    try:
        return _MACHINE_ID.read_text()[:_MACHINE_ID_CHARS].strip()
    except (OSError, UnicodeDecodeError):
        return ""
