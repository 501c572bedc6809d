"""Where things lie on this host. The state directory is ``AGENTCTL_STATE_DIR``, else where platformdirs says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from agentctl.errors import StateNotWritable


def default_state_dir() -> Path:
    """``$AGENTCTL_STATE_DIR``, else the user's state directory of this platform."""
    given = os.environ.get("AGENTCTL_STATE_DIR")
    if given:
        return Path(given).expanduser().absolute()
    from platformdirs import user_state_path

    return user_state_path("agentctl", appauthor=False)


@dataclass(frozen=True, slots=True)
class StatePaths:
    """The layout of one state directory (mode 0700)."""

    root: Path

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

    @property
    def volumes(self) -> Path:
        """unix_local volumes: ``<name>/agents/<session>/{home,log}`` and ``<name>/workspaces/<name>``."""
        return self.root / "volumes"

    @property
    def run(self) -> Path:
        """One directory per live unix_local sandbox: socket, token, supervisor's own log."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

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
