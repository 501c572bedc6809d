"""What stands in for a cloud's machine: real processes with a file system and process ids of their own.

A ``StandIn`` is one "machine": a mount and a pid namespace with a root of its own. It sees this host's programs
(``/usr`` and the Pythons that run the tests) read-only, and nothing else of it. What ``OWN`` lists are directories
below ``root`` on this host: a test may look into them, and they last until it deletes them. Volumes are directories
bound where the sandbox wants them. The network is the host's, so two stand-ins must not listen on the same port. When
its first process is ended, everything in it is, at once.

    with StandIn(tmp_path / "machine", binds={"/vol": tmp_path / "volume"}) as machine:
        subprocess.run(machine.argv(["sh", "-c", "echo $HOME"], env={"HOME": "/home/daytona"}), check=True)
        machine.stop(); machine.start()      # the files are still there, the processes are not

All calls are quick (20 ms for a start) and block. ``available()`` says why it cannot be had on this host, or None.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

OWN = ("home", "tmp", "opt", "root", "run", "srv", "var/tmp", "mnt")
"""What a machine has for itself, as directories below its ``root``."""

_PROGRAMS = ("/usr",)
_SETTINGS = ("/etc",)
_INIT = """
set -e
top=$1; shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 none "$top"
mkdir "$top/proc" "$top/dev" "$top/sys"
while [ $# -gt 0 ]; do
    mkdir -p "$top$2"
    mount --$4 "$1" "$top$2"
    [ "$3" = rw ] || mount -o "remount,bind,$3" "$top$2"
    shift 4
done
mount -t proc none "$top/proc"
mount --rbind /dev "$top/dev"
for name in bin sbin lib lib64; do [ ! -L "/$name" ] || cp -P "/$name" "$top/$name"; done
exec chroot "$top" /bin/sh -c 'echo up; exec <&- >&- 2>&-; trap "exit 0" TERM; sleep infinity & while :; do wait; done'
"""
"""The first process reaps what its dead children leave, as any init does: ``wait`` in a shell takes all there are."""


class StandIn:
    """One machine. ``binds`` are what it sees at an absolute path of its own: a directory of this host, writable, or
    ``(directory, "ro")``. Raise ``OSError`` when it cannot be started."""

    def __init__(self, root: Path, binds: Mapping[str, Path | tuple[Path, str]] | None = None) -> None:
        self.root = root
        self.binds = dict(binds or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0
        for name in OWN:
            (root / name).mkdir(parents=True, exist_ok=True)
        for name in ("tmp", "var/tmp"):
            (root / name).chmod(0o1777)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.delete()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Bring it up, with the files that it had; one that runs is left as it is."""
        if self.is_running:
            return
        top = self.root / ".top"
        top.mkdir(exist_ok=True)
        argv = ["unshare", *_namespaces(), "-m", "-p", "-f", "--kill-child", "sh", "-c", _INIT, "init", str(top)]
        self._process = subprocess.Popen(
            [*argv, *self._mounts()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        said = self._process.stdout.readline()
        if said != b"up\n":
            why = self._process.stderr.read().decode(errors="replace").strip()
            self.stop()
            raise OSError(f"the stand-in could not be started: {why}")
        self._init = int(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0])

    def stop(self) -> None:
        """End all its processes, as a power cut does. Its files stay."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self._init or process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        self._init = 0

    def delete(self) -> None:
        """Stop it and delete its files, but not what was bound."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def argv(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> list[str]:
        """What to run on this host so that ``command`` runs in the machine, with exactly that environment (a PATH that
        has Python is there in any case). A killed one takes only itself along: use ``pids`` to find what it started."""
        values = {"PATH": search_path(), **(env or {})}
        words = ["env", "-i", *(f"{name}={value}" for name, value in values.items()), *command]
        if cwd is not None:
            words = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", cwd, *words]
        user = ["--preserve-credentials", "-U"] if os.getuid() else []
        return ["nsenter", "-t", str(self._init), *user, "-m", "-p", "-r", "-w", "--", *words]

    def path(self, inside: str) -> Path:
        """Where an absolute path of the machine lies on this host. Raise ``LookupError`` for one not its own."""
        for target in sorted(self.binds, key=len, reverse=True):
            if inside == target or inside.startswith(f"{target}/"):
                bound = self.binds[target]
                return (bound[0] if isinstance(bound, tuple) else bound) / inside.removeprefix(target).lstrip("/")
        if any(inside.startswith(f"/{name}") for name in OWN):
            return self.root / inside.lstrip("/")
        raise LookupError(f"{inside} is not of the machine's own")

    def pids(self) -> list[int]:
        """The host's ids of all processes in it but the first and its own sleep, oldest first."""
        if not self.is_running:
            return []
        mine = os.readlink(f"/proc/{self._init}/ns/pid")
        return [pid for pid in _all_pids() if _namespace(pid) == mine and pid != self._init and not _is_idle(pid)]

    def kill(self, mark: str) -> list[int]:
        """SIGKILL every process whose command line has ``mark``: the host's ids of those."""
        found = [pid for pid in self.pids() if mark in _command_line(pid)]
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found

    def _mounts(self) -> list[str]:
        programs = [(place, place, "ro", "rbind") for place in (*_PROGRAMS, *_SETTINGS, *_pythons()) if place]
        own = [(str(self.root / name), f"/{name}", "rw", "bind") for name in OWN]
        bound = [
            (str(b[0]), target, b[1], "bind") if isinstance(b, tuple) else (str(b), target, "rw", "bind")
            for target, b in self.binds.items()
        ]
        # What lies deeper is mounted later: the tests' Python may be below /root, a volume below /home.
        return [word for mount in sorted([*programs, *own, *bound], key=lambda m: len(m[1])) for word in mount]


def search_path() -> str:
    """A PATH of the machine that begins with the Python that runs the tests."""
    places = [os.path.dirname(os.path.realpath(sys.executable)), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"]
    return ":".join(dict.fromkeys(places))


@functools.cache
def available() -> str | None:
    """Why there can be no stand-ins on this host; None when there can."""
    for program in ("unshare", "nsenter", "chroot", "mount"):
        if shutil.which(program) is None:
            return f"there is no program {program}"
    tried = subprocess.run(["unshare", *_namespaces(), "-m", "-p", "-f", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no namespaces: {tried.stderr.strip()}"


def _namespaces() -> list[str]:
    return ["-U", "-r"] if os.getuid() else []


@functools.cache
def _pythons() -> tuple[str, ...]:
    """The directories of the Python that runs the tests, where they are not below ``/usr``."""
    places = {sys.base_prefix, os.path.realpath(sys.base_prefix)}
    return tuple(sorted(place for place in places if not place.startswith("/usr")))


def _all_pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _is_idle(pid: int) -> bool:
    return _command_line(pid).strip() in ("sleep infinity", "")
