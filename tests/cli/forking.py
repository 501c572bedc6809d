"""Commands of agentctl as processes that are forked, all imported, from one server: a fifth of the time of a start.

They get what a start would give them: streams, arguments, directory, umask and the whole environment, and run the same
``main``. Only what Python reads while it starts comes too late, so that a command with other such variables is started.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import re
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, TextIO

import agentctl
from agentctl.cli import entry

PROGRAM = Path(agentctl.__file__).parent / "cli" / "__main__.py"
AT_START = re.compile(r"PYTHON|LC_|LANG|LD_|MALLOC_")
TESTS_OWN = re.compile(rf"AGENTCTL_|{AT_START.pattern}")
NOT_PRELOADED = {"daytona", "modal", "__main__", "bundle_entry", "packed_entry"}
LATE = (
    "anyio._backends._asyncio",
    "modal_proto.api_grpc",
    "platformdirs",
    "sqlite_utils.db",
    "synchronicity",
    "tomllib",
    "typer._click.decorators",
)
"""What commands import of others when they run."""


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if AT_START.match(name)}


STARTED_WITH = _at_start(os.environ)
"""Before any test has changed it."""

Finished = tuple[int, str, str]
"""The exit code (negative: the signal), and what was written on stdout and stderr."""


def run(
    args: Sequence[str],
    stdin: str | None,
    env: Mapping[str, str],
    cwd: object,
    timeout_s: float,
    began: Callable[[int], object] = abs,
) -> Finished:
    """Run one command to its end, and until nobody has its streams open any more, as ``subprocess.run`` would.
    ``began`` is told its process id, in this thread; one that is started rather than forked is not told."""
    if _at_start(env) != STARTED_WITH:
        done = subprocess.run(
            [sys.executable, "-m", "agentctl.cli", *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            env=env,
            cwd=str(cwd),
            timeout=timeout_s,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr
    mask = os.umask(0o22)
    os.umask(mask)
    asked = {"args": args, "cwd": str(cwd), "env": dict(env), "umask": mask}
    return _Call(stdin, began).run(json.dumps(asked).encode(), timeout_s)


_asking = threading.Lock()
"""Held while a command is asked for: tests ask from several threads."""


@cache
def _server() -> socket.socket:
    """Of this process; it ends when this process does, which alone has the other end of its socket."""
    ours, theirs = socket.socketpair()
    with theirs:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.forking", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            cwd=Path(__file__).parents[2],
            # Whoever looks for what one test left must not find what is every test's.
            env={name: os.environ[name] for name in os.environ if not TESTS_OWN.match(name)} | STARTED_WITH,
        )
    atexit.register(server.wait)
    atexit.register(ours.close)
    return ours


class _Call:
    """One command as it is seen by who asked for it."""

    def __init__(self, stdin: str | None, began: Callable[[int], object]) -> None:
        self._began = began
        self._read = {name: os.pipe() for name in ("out", "err", "ended")}
        self._got = dict.fromkeys(self._read, b"")
        self._input = None if stdin is None else memoryview(stdin.encode())
        self._stdin = (os.open(os.devnull, os.O_RDONLY), -1) if stdin is None else os.pipe()
        self._selector = selectors.DefaultSelector()

    def run(self, asked: bytes, timeout_s: float) -> Finished:
        theirs = [self._stdin[0], *(writer for _, writer in self._read.values())]
        with _asking:
            server = _server()
            socket.send_fds(server, [struct.pack("=i", len(asked))], theirs)
            server.sendall(asked)
        for fd in theirs:
            os.close(fd)
        with self._selector:
            self._exchange(time.monotonic() + timeout_s)
        _pid, code = struct.unpack("=ii", self._got["ended"])
        return code, self._text("out"), self._text("err")

    def _text(self, name: str) -> str:
        """As ``text=True`` has it."""
        return self._got[name].decode().replace("\r\n", "\n").replace("\r", "\n")

    def _exchange(self, end: float) -> None:
        for name, (reader, _) in self._read.items():
            self._selector.register(reader, selectors.EVENT_READ, name)
        if self._input is not None:
            os.set_blocking(self._stdin[1], False)
            self._selector.register(self._stdin[1], selectors.EVENT_WRITE)
        while self._selector.get_map():
            ready = self._selector.select(max(end - time.monotonic(), 0))
            if not ready:
                self._give_up()
            for key, _ in ready:
                if self._is_over(key.fd, key.data):
                    self._selector.unregister(key.fd)
                    os.close(key.fd)

    def _is_over(self, fd: int, name: str | None) -> bool:
        if name is not None:
            chunk = os.read(fd, 65536)
            self._got[name] += chunk
            if name == "ended" and len(self._got[name]) == len(chunk) == 4:
                self._began(struct.unpack("=i", chunk)[0])
            return not chunk
        try:
            self._input = self._input[os.write(fd, self._input) :]
        except BlockingIOError:
            return False
        except BrokenPipeError:  # it does not read what it was given
            return True
        return not self._input

    def _give_up(self) -> NoReturn:
        if len(self._got["ended"]) == 4:
            os.kill(struct.unpack("=i", self._got["ended"])[0], signal.SIGKILL)
        raise AssertionError(f"it goes on: {self._text('out')}\n{self._text('err')}")


class _Server:
    """Forks the commands that it is asked for, and tells of each its process and how that ended."""

    def __init__(self, asks: socket.socket) -> None:
        self._asks = asks
        self._told: dict[int, int] = {}
        self._wakes, self._wake = socket.socketpair()
        self._wakes.setblocking(False)
        self._wake.setblocking(False)

    def serve(self) -> None:
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        for each in (self._asks, self._wakes):
            selector.register(each, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if self._wakes in ready:
                self._wakes.recv(4096)
                self._reap()
            if self._asks in ready and not self._fork():
                return

    def _fork(self) -> bool:
        size, files, _, _ = socket.recv_fds(self._asks, 4, 4)
        if not size:
            return False
        asked = json.loads(self._asks.recv(struct.unpack("=i", size)[0], socket.MSG_WAITALL))
        *streams, told = files
        pid = os.fork()
        if pid == 0:
            os.close(told)
            self._close()
            _become(asked, streams)
        for fd in streams:
            os.close(fd)
        self._told[pid] = told
        os.write(told, struct.pack("=i", pid))
        return True

    def _close(self) -> None:
        """What is the server's is not the command's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (self._asks, self._wakes, self._wake):
            each.close()
        for told in self._told.values():  # who asked for another waits until nobody can write there
            os.close(told)

    def _reap(self) -> None:
        while self._told:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            told = self._told.pop(pid)
            with suppress(BrokenPipeError):  # who asked has given up
                os.write(told, struct.pack("=i", os.waitstatus_to_exitcode(status)))
            os.close(told)


def _become(asked: Any, streams: list[int]) -> NoReturn:
    try:
        for fd, stream in enumerate(streams):
            os.dup2(stream, fd)
            os.close(stream)
        sys.stdin, sys.stdout, sys.stderr = _streams()
        os.umask(asked["umask"])
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["env"])
        time.tzset()
        sys.argv = [str(PROGRAM), *asked["args"]]
        entry.main()
    finally:
        os._exit(99)  # it has exited by itself unless something is wrong


def _streams() -> tuple[TextIO, TextIO, TextIO]:
    """As Python opens them for these files; what the server has was opened for its own."""
    stdin = open(0, errors=sys.stdin.errors, closefd=False)  # noqa: SIM115 - for the whole process
    stdout = open(1, "w", errors=sys.stdout.errors, closefd=False)  # noqa: SIM115
    stderr = open(2, "w", buffering=1, errors=sys.stderr.errors, closefd=False)  # noqa: SIM115
    return stdin, stdout, stderr


def _import_all() -> None:
    root = Path(agentctl.__file__).parent
    ours = (path.relative_to(root.parent).with_suffix("").parts for path in sorted(root.rglob("*.py")))
    names = [".".join(words).removesuffix(".__init__") for words in ours if not NOT_PRELOADED.intersection(words)]
    for name in (*names, *LATE):
        with suppress(ImportError):  # what needs it will tell it, on a system that lacks it
            import_module(name)
    assert threading.active_count() == 1, "a thread would not be there in what is forked"


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asks:
        _import_all()
        gc.freeze()  # so that a collection in a command does not copy all pages
        _Server(asks).serve()
