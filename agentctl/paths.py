"""Where things lie on this host. The state directory is ``AGENTCTL_STATE_DIR``, else where platformdirs says."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentctl.errors import DiskFull, StateNotWritable


def default_state_dir() -> Path:
    """``$AGENTCTL_STATE_DIR``, else the user's state directory of this platform."""
    given = os.environ.get("AGENTCTL_STATE_DIR")
    if given:
        return Path(given).expanduser().absolute()
    from platformdirs import user_state_path

    return user_state_path("agentctl", appauthor=False)


def try_lock(fd: int) -> bool:
    """Take the file's lock for as long as it is open; False while somebody else has it."""
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def state_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` about ``path``, a place in the state directory, into ``DiskFull`` or ``StateNotWritable``."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"The disk that holds {path} is full.",
                hint="Free some space, or set AGENTCTL_STATE_DIR to a directory on another disk.",
            ) from e
        raise StateNotWritable(
            f"Cannot use {path}: {e.strerror}.",
            hint="Set AGENTCTL_STATE_DIR to a directory that you can write.",
        ) from e


class StatePaths:
    """The layout of one state directory (mode 0700). No dataclass: ``run`` spawns before it imports those."""

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def database(self) -> Path:
        return self.root / "agentctl.db"

    @property
    def runtime(self) -> Path:
        """Unpacked supervisor bundles, one directory per content hash and interpreter."""
        return self.root / "runtime"

    @property
    def agents(self) -> Path:
        """Installed agents: ``<name>/<version>/``; Node runtimes: ``node/<version>/``."""
        return self.root / "agents"

    def agents_for(self, platform: str) -> Path:
        """The same for containers of another platform than this machine's (``linux-x64-musl``)."""
        return self.root / "agents-for" / platform

    @property
    def volumes(self) -> Path:
        """unix_local volumes: ``<name>/agents/<session>/{home,log}`` and ``<name>/workspaces/<name>``."""
        return self.root / "volumes"

    @property
    def run(self) -> Path:
        """One directory per live unix_local sandbox: socket, token, supervisor's own log."""
        return self.root / "run"

    @property
    def docker(self) -> Path:
        """What this host keeps of docker sandboxes: ``run/<sandbox>/`` with token and socket, ``images/`` what is known
        of images."""
        return self.root / "docker"

    @property
    def daytona(self) -> Path:
        """What this host keeps of daytona sandboxes: ``run/<sandbox>`` is the token of its supervisor, ``runtime/`` the
        bundle as it is sent."""
        return self.root / "daytona"

    @property
    def modal(self) -> Path:
        """What this host keeps of modal sandboxes: ``run/<sandbox>`` is the token of its supervisor, ``runtime/`` the
        bundle as it is sent, ``images/`` what was built."""
        return self.root / "modal"

    @property
    def secrets(self) -> Path:
        """Values of ``--secret NAME=-``: ``<session>.json``, mode 0600."""
        return self.root / "secrets"

    @property
    def skills(self) -> Path:
        """Skills from git repositories, as they were fetched last."""
        return self.root / "skills"

    @property
    def projects(self) -> Path:
        """What is kept of sessions' project directories: ``<session>/`` with their base, and their own copy of it."""
        return self.root / "projects"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def known(self) -> Path:
        """What agents told of themselves when they ran last: ``<agent>.json`` (``ops/known_options.py``)."""
        return self.root / "known"

    @property
    def log(self) -> Path:
        """A line for each command that ran (``cli/log.py``)."""
        return self.logs / "agentctl.log"

    def ensure(self) -> StatePaths:
        """Create the directory, private to its owner. Raise ``StateNotWritable``."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.root.stat().st_mode & 0o077:
                self.root.chmod(0o700)
        except OSError as e:
            raise StateNotWritable(
                f"Cannot use the state directory {self.root}: {e.strerror}",
                hint="Set AGENTCTL_STATE_DIR to a directory that you can write.",
            ) from e
        return self
