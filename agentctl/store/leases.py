"""Who holds a lease: ``host:boot_id:pid:start_ticks``, so that a dead holder is told from a living one."""

from __future__ import annotations

import os

from agentctl.supervisor.processes import ProcessIdentity


def this_holder() -> str:
    """The holder string of the calling process."""
    return holder_of(ProcessIdentity.of(os.getpid()))


def holder_of(process: ProcessIdentity | None) -> str:
    """The holder string of a process of this host."""
    assert process is not None, "a living process has an identity"
    return f"{os.uname().nodename}:{process.boot_id}:{process.pid}:{process.start_ticks}"


def is_dead(holder: str) -> bool:
    """Whether ``holder`` is known to be gone: a process of this host and this boot that lives no more.

    Of another machine nothing is known, so its lease has to expire; the same after a reboot, since a host name alone
    does not tell a rebooted machine from its twin.
    """
    try:
        host, boot_id, pid, ticks = holder.rsplit(":", 3)
        process = ProcessIdentity(pid=int(pid), start_ticks=int(ticks), boot_id=boot_id)
    except ValueError:
        return False
    me = ProcessIdentity.of(os.getpid())
    if host != os.uname().nodename or me is None or me.boot_id != boot_id:
        return False
    return not process.is_alive()
