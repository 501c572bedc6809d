"""A Postgres server of our own: Debian's binaries on a temporary directory, ended by its pid."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg

_DEBIAN = Path("/usr/lib/postgresql")
_USER = "postgres"
_START_S = 20
_SETTLED_S = 60
_PREFIX = "agentctl-pg-"
_FAST = (
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "shared_buffers=16MB",
    "max_connections=60",
    "deadlock_timeout=50ms",
)


class PostgresServer:
    """Use as a context manager. It listens on a socket in its directory, and on a loopback port with a password."""

    password = "pa:ss/w@rd%"

    def __init__(self) -> None:
        _clear_up_after_the_killed()
        self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._alive = (self.directory / "alive").open("w")
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        self._data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # The server refuses to run as root.
        self._how = {"user": _USER, "group": _USER, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._how:
            shutil.chown(self.directory, _USER, _USER)

    def __enter__(self) -> PostgresServer:
        self._run(
            "initdb", "-D", str(self._data), "-U", _USER, "-E", "UTF8", "--no-locale", "--no-sync", "--auth=trust"
        )
        hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        (self._data / "pg_hba.conf").write_text(hba)
        self.start()
        self.sql(f"ALTER USER {_USER} PASSWORD '{self.password}'")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.directory)
        self._alive.close()

    def start(self) -> None:
        """Start it, and return when it answers."""
        settings = [f"-c{s}" for s in (*_FAST, f"port={self.port}", "listen_addresses=127.0.0.1")]
        argv = [_binary("postgres"), "-D", str(self._data), "-k", str(self.directory), *settings]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **self._how
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self.sql("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self.directory / "log").read_text()) from None
                time.sleep(0.02)

    def stop(self, how: int = signal.SIGINT) -> None:
        """End it: connections are cut (SIGINT), or as by a crash (SIGQUIT)."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    def restart(self, how: int = signal.SIGINT) -> None:
        self.stop(how)
        self.start()

    def database(self) -> str:
        """The URL of a new, empty database, through the socket."""
        name = f"t{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str = "postgres") -> str:
        return f"postgresql:///{name}?host={quote(str(self.directory), safe='')}&port={self.port}&user={_USER}"

    def tcp_url(self, name: str = "postgres", password: str = password) -> str:
        return f"postgresql://{_USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{name}"

    def sql(self, statement: str, name: str = "postgres") -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(name), autocommit=True) as db:
            cursor = db.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *args: str) -> None:
        done = subprocess.run([_binary(program), *args], capture_output=True, text=True, cwd="/", **self._how)
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr}")


def _clear_up_after_the_killed() -> None:
    """End the servers, and remove the directories, of test runs that could not: nobody holds their lock any more."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/alive"):
        with suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - lock.stat().st_mtime < _SETTLED_S:  # it may be about to be locked
                continue
            with suppress(FileNotFoundError, ValueError):
                pid = int((lock.parent / "data" / "postmaster.pid").read_text().split()[0])
                if os.readlink(f"/proc/{pid}/cwd") == str(lock.parent / "data"):
                    os.kill(pid, signal.SIGQUIT)
            shutil.rmtree(lock.parent, ignore_errors=True)


def _binary(name: str) -> str:
    """On PATH, or where Debian keeps them: the newest version's."""
    versions = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = shutil.which(name) or (str(versions[-1]) if versions else None)
    if found is None:
        raise RuntimeError(f"There is no {name}: install the package `postgresql`.")
    return found
