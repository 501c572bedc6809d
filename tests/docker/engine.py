"""A Docker engine for the tests: the one that is there, else Debian's dockerd, started by us and ended by its pid.

Ours is shared by everybody who tests on this machine. Each user holds a shared lock on a file; a keeper process, which
started the engine, waits for the exclusive lock: it gets it when the last user is gone, however that one died.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import docker

_START_S = 30
_STOP_S = 30


class Engine:
    """A reachable engine at ``host`` (a URL for ``DOCKER_HOST``)."""

    def __init__(self, host: str) -> None:
        self.host = host

    def api(self) -> docker.APIClient:
        return docker.APIClient(base_url=self.host, version="auto", timeout=60)


@contextmanager
def shared_engine():
    """An engine for as long as the block lasts. Raise ``LookupError``, saying why, where there can be none."""
    given = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if answers(given):
        yield Engine(given)
        return
    why = why_not()
    if why:
        raise LookupError(why)
    place = Path(f"/tmp/agentctl-docker-{os.getuid()}")  # short: a socket's path has 107 bytes
    place.mkdir(mode=0o700, exist_ok=True)
    with (place / "users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits while a keeper ends the engine of before
        with (place / "start").open("a") as start:
            fcntl.flock(start, fcntl.LOCK_EX)
            host = f"unix://{place}/s"
            if not answers(host):
                _keeper(place)
        yield Engine(host)


@contextmanager
def own_engine(place: Path, *arguments: str):
    """An engine that nobody else uses, to be stopped and started: ``Daemon``. It ends with the block. It has a network
    of its own, or it would take the bridge from another engine on this machine; its containers reach nothing."""
    why = why_not()
    if why:
        raise LookupError(why)
    daemon = Daemon(place, *_ALONE, *arguments, before=("unshare", "--net"))
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.end()


def why_not() -> str:
    """Why no engine can be started here; empty when one can."""
    if os.getuid() != 0:
        return "no Docker engine answers, and only root can start one"
    if shutil.which("dockerd", path=_PATH) is None:
        return "no Docker engine answers, and there is no dockerd: install the packages docker.io and iptables"
    return ""


def answers(host: str) -> bool:
    path = host.removeprefix("unix://")
    if path != host and not os.path.exists(path):
        return False
    try:
        docker.APIClient(base_url=host, version="auto", timeout=10).close()
    except docker.errors.DockerException:
        return False
    return True


_ALONE = ("--bridge", "none", "--iptables=false", "--ip6tables=false")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Daemon:
    """A dockerd with all its data below ``place``, which should be a short path."""

    def __init__(self, place: Path, *arguments: str, before: tuple[str, ...] = ()) -> None:
        self.place = place
        self.host = f"unix://{place}/s"
        self._arguments = arguments
        self._before = before
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        (self.place / "pid").unlink(missing_ok=True)  # that of a killed one would stop the next
        roots = ["--data-root", f"{self.place}/data", "--exec-root", f"{self.place}/exec"]
        argv = [*self._before, "dockerd", *roots, "--pidfile", f"{self.place}/pid", "-H", self.host, *self._arguments]
        with (self.place / "log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PATH": _PATH}, cwd="/"
            )
        deadline = time.monotonic() + _START_S
        while not answers(self.host):
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.stop(signal.SIGKILL)
                raise RuntimeError(f"dockerd does not start: {(self.place / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def restart_without(self, argument: str, how: int = signal.SIGTERM) -> None:
        """Stop it, and start it without one of its arguments."""
        self.stop(how)
        self._arguments = tuple(given for given in self._arguments if given != argument)
        self.start()

    def api(self) -> docker.APIClient:
        return Engine(self.host).api()

    def end(self) -> None:
        """Stop it and remove all that it had."""
        self.stop()
        # With --live-restore it leaves its mounts.
        subprocess.run(["umount", "--quiet", "--lazy", self.place / "data"], stderr=subprocess.DEVNULL, check=False)
        with suppress(FileNotFoundError):
            shutil.rmtree(self.place / "data")
        for name in ("exec", "pid", "s", "log"):
            path = self.place / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _keeper(place: Path) -> None:
    """Start the process that starts the engine; return when the engine answers."""
    argv = [sys.executable, "-m", "tests.docker.engine", str(place)]
    root = Path(__file__).parent.parent.parent
    # Whoever looks for what one test left must not find an engine that is everybody's.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTCTL_", "PYTEST_"))}
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    keeper = subprocess.Popen(argv, cwd=root, stdin=null, stdout=pipe, start_new_session=True, env=env)
    said = keeper.stdout.readline()
    keeper.stdout.close()
    if said != b"ready\n":
        raise RuntimeError("The keeper of the Docker engine could not start it.")
    keeper.returncode = 0  # it outlives us on purpose: nobody waits for it


def keep(place: Path) -> None:
    daemon = Daemon(place)
    daemon.start()
    print("ready", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with (place / "users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        daemon.end()


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
