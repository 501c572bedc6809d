"""A volume's own directory, for a process that may work in it as the engine itself does: root, beside an engine of this
very machine. Elsewhere a container has to be made for every directory, which costs 80 ms, and 400 ms to delete one.

Nothing here follows a symbolic link: who may write into a volume must not lead root out of it.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from agentctl.errors import SandboxError
from agentctl.providers.leftover import NEWEST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentctl.providers.docker.engine import Engine
    from agentctl.providers.docker.shelf import Directory

AGENT_USER = 1000
_LOOK_S = 600.0
_ENGINES = ("dockerd", "systemd")
"""Who may listen on the socket: the engine, or the one that starts it when somebody comes."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def place(engine: Engine, mountpoint: str) -> Path | None:
    """Where we reach the volume that the engine has at ``mountpoint``, as the engine sees it; None where we do not."""
    if os.geteuid() != 0 or not engine.is_local:
        return None
    with suppress(OSError):
        pid = _listener(engine.url.removeprefix("unix://"))
        program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
        same_users = os.path.samefile(f"/proc/{pid}/ns/user", "/proc/self/ns/user")
        found = Path(f"/proc/{pid}/root{mountpoint}")
        # An engine that gives its containers other users' numbers owns it by such a number.
        if os.path.basename(program) in _ENGINES and same_users and found.lstat().st_uid in (0, AGENT_USER):
            return found
    return None


def _listener(path: str) -> int:
    """The process that listens on a socket; an engine in a virtual machine has none here, or a stranger."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(1)
        door.connect(path)
        pid: int = struct.unpack("3i", door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return pid


def make_directories(top: Path, wanted: Iterable[Directory]) -> None:
    """Make them where they are missing; owner and mode are put right in any case."""
    for directory in wanted:
        parts = PurePosixPath(directory.path).parts
        with _errors(directory.path), _descent(top, parts, make=True) as last:
            os.fchown(last, directory.owner, directory.owner)
            os.fchmod(last, directory.mode)


def delete_tree(top: Path, relative: str) -> bool:
    """Delete what is at ``relative``; a missing one is fine. Return whether nothing is left but an empty ``agents``."""
    *parents, name = PurePosixPath(relative).parts
    with _errors(relative):
        with suppress(FileNotFoundError), _descent(top, parents, make=False) as parent:
            if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                shutil.rmtree(name, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)
        left = os.listdir(top)
        return not left or (left == ["agents"] and not os.listdir(top / "agents"))


@contextmanager
def _descent(top: Path, parts: Iterable[str], *, make: bool) -> Iterator[int]:
    """The directory at the end of ``parts``, opened."""
    here = os.open(top, _OPEN)
    try:
        for part in parts:
            if make:
                _pass(here)
                with suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=here)
            below = os.open(part, _OPEN, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _pass(directory: int) -> None:
    """One on the way is the agent's, as whom the supervisor works on files, and lets everybody through."""
    os.fchown(directory, AGENT_USER, AGENT_USER)
    os.fchmod(directory, 0o755)


def written_at(top: Path) -> float:
    """When anything in it was last written to. Raise ``ValueError`` when it changes meanwhile."""
    argv = [sys.executable, "-IS", "-c", NEWEST, str(top)]
    try:
        said = subprocess.run(argv, capture_output=True, timeout=_LOOK_S, check=False)
    except subprocess.TimeoutExpired as e:
        raise SandboxError(f"What is in {top} could not be looked at within {_LOOK_S:g} s.") from e
    return float(said.stdout)


@contextmanager
def _errors(relative: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise SandboxError(f"{relative} of the volume cannot be changed: {e.strerror or e}.") from e
