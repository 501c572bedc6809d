"""A supervisor process before it knows what for: spawned in a few milliseconds, told by its Boot line.

``run`` spawns one first and imports the rest of agentctl while the supervisor imports its own libraries: nothing slow
may be imported here.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from agentctl.paths import StatePaths, state_errors
from agentctl.providers.bootstrap import ensure_runtime

LOG_NAME = "supervisor.log"
_SANDBOX_ENV = "AGENTCTL_SANDBOX_ID"  # that of wire.py, whose dataclasses would delay the spawn by 10 ms


class Prespawned:
    """A supervisor that waits for its Boot line on ``boot_fd`` and will say Ready on ``ready_fd``.

    It ends by itself when ``boot_fd`` is closed unused, also by our death.
    """

    __slots__ = ("boot_fd", "pid", "ready_fd", "run_dir", "sandbox_id")

    def __init__(self, sandbox_id: str, run_dir: Path, pid: int, boot_fd: int, ready_fd: int) -> None:
        self.sandbox_id = sandbox_id
        self.run_dir = run_dir
        self.pid = pid
        self.boot_fd = boot_fd
        self.ready_fd = ready_fd

    def close(self) -> None:
        """Close our ends of the pipes."""
        for fd in (self.boot_fd, self.ready_fd):
            if fd >= 0:
                os.close(fd)
        self.boot_fd = self.ready_fd = -1

    def discard(self) -> None:
        """End the process, which has no children yet, and remove its directory. Safe to call twice."""
        from agentctl.providers.trees import remove_tree

        self.close()
        with suppress(ProcessLookupError, ChildProcessError):
            # It is our unreaped child, so the pid is still its own.
            if os.waitpid(self.pid, os.WNOHANG)[0] == 0:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        remove_tree(self.run_dir)


def prespawn(paths: StatePaths, sandbox_id: str) -> Prespawned:
    """Start the supervisor of the sandbox to be, with a directory of its own below ``run``.

    Raise ``InstallFailed``, ``StateNotWritable`` or ``DiskFull``; nothing is left then.
    """
    runtime = ensure_runtime(paths)
    run_dir = paths.run / sandbox_id
    with state_errors(run_dir):
        paths.run.mkdir(mode=0o700, exist_ok=True)
        run_dir.mkdir(mode=0o700)
        (run_dir / "tmp").mkdir(mode=0o700)
        try:
            return _spawn(runtime, run_dir, sandbox_id)
        except BaseException:
            from agentctl.providers.trees import remove_tree

            remove_tree(run_dir)
            raise


def _spawn(runtime: Path, run_dir: Path, sandbox_id: str) -> Prespawned:
    argv = [sys.executable, "-IS", str(runtime / "__main__.py"), "-C", str(run_dir), "serve"]
    log = os.open(run_dir / LOG_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    boot_read, boot_write = os.pipe()
    ready_read, ready_write = os.pipe()
    moves = [(boot_read, 0), (ready_write, 1), (log, 2)]
    try:
        pid = os.posix_spawn(
            argv[0],
            argv,
            _environment(run_dir, sandbox_id),
            file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for source, target in moves] + _closing(),
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )
    except BaseException:
        os.close(boot_write)
        os.close(ready_read)
        raise
    finally:
        for source, _ in moves:
            os.close(source)
    return Prespawned(sandbox_id, run_dir, pid, boot_write, ready_read)


def _environment(run_dir: Path, sandbox_id: str) -> dict[str, str]:
    """The supervisor's own environment. What agents get arrives with Boot."""
    path = os.environ.get("PATH", os.defpath)
    return {_SANDBOX_ENV: sandbox_id, "PATH": path, "TMPDIR": str(run_dir / "tmp")}


def _closing() -> list[tuple[int, int]]:
    """What our caller let us inherit ends here: a CI job would wait for ever for the end of a pipe that we hold."""
    return [(os.POSIX_SPAWN_CLOSE, fd) for fd in _open_fds() if fd > 2 and _is_inheritable(fd)]


def _open_fds() -> list[int]:
    return [int(name) for name in os.listdir("/dev/fd") if name.isdecimal()]


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # the listing's own descriptor, closed by now
