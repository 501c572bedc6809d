"""Our ends of a process's streams: output is read as it comes and never blocks us, input is written as it is taken."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress

from agentctl.errors import Conflict

_READ_BYTES = 256 * 1024
_READS = 4
LAST_WORDS_S = 0.2

Take = Callable[[bytes], None]
MustWait = Callable[[Callable[[], None]], bool]


class OutputReader:
    """Gives all that comes from a pipe or terminal to ``take``, unless ``must_wait`` says no; ``ended`` is set at its
    end. After ``let_go`` it reads on, so that whoever else holds the other end is not blocked, but nothing is taken."""

    def __init__(self, fd: int, take: Take, must_wait: MustWait | None = None) -> None:
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._take: Take | None = take
        self._must_wait = must_wait
        self._count = 0
        self._progress = asyncio.Event()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._readable)

    async def drain(self) -> None:
        """After the death of the process: return when all that it wrote was taken. What holds the other end after it
        may add to it for 0.2 s, and then no more."""
        owed = self._count + self._pending()
        while not self.ended.is_set() and self._count < owed:
            self._progress.clear()
            await self._progress.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), LAST_WORDS_S)

    def let_go(self) -> None:
        self._take = None
        self._must_wait = None
        if not self.ended.is_set():
            self._resume()

    def close(self) -> None:
        if not self.ended.is_set():
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self.ended.set()
            self._progress.set()

    def _readable(self) -> None:
        """Take up to a mebibyte, so that a flood cannot starve the loop."""
        for _ in range(_READS):
            if self._must_wait is not None and self._must_wait(self._resume):
                self._loop.remove_reader(self._fd)
                return
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                return
            except OSError:  # of a terminal that nobody has open any more
                data = b""
            if not data:
                self.close()
                return
            self._count += len(data)
            if self._take is not None:
                self._take(data)
            self._progress.set()

    def _resume(self) -> None:
        if not self.ended.is_set():
            self._loop.add_reader(self._fd, self._readable)

    def _pending(self) -> int:
        if self.ended.is_set():
            return 0
        try:
            answer = fcntl.ioctl(self._fd, termios.FIONREAD, b"\0\0\0\0")
        except OSError:
            return 0
        return int(struct.unpack("i", answer)[0])


class InputWriter:
    """Writes to a pipe or terminal, one caller after the other, as fast as the process takes it."""

    def __init__(self, fd: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._turn = asyncio.Lock()
        self._closed = False
        os.set_blocking(fd, False)

    @property
    def closed(self) -> bool:
        return self._closed

    async def write(self, data: bytes, timeout_s: float) -> int:
        """Return how much of it the process took within that time. Raise ``Conflict`` when it reads no more."""
        deadline = time.monotonic() + timeout_s
        async with self._turn:
            done = 0
            while done < len(data):
                if self._closed:
                    raise _deaf()
                try:
                    done += os.write(self._fd, data[done:])
                except BlockingIOError:
                    if not await self._writable(deadline - time.monotonic()):
                        break
                except OSError as e:
                    self.close()
                    raise _deaf() from e
            return done

    async def _writable(self, timeout_s: float) -> bool:
        ready = asyncio.Event()
        self._loop.add_writer(self._fd, ready.set)
        try:
            await asyncio.wait_for(ready.wait(), max(timeout_s, 0))
        except TimeoutError:
            return False
        finally:
            if not self._closed:
                self._loop.remove_writer(self._fd)
        return True

    def close(self) -> None:
        """The process sees the end of its input."""
        if not self._closed:
            self._closed = True
            self._loop.remove_writer(self._fd)
            os.close(self._fd)


def _deaf() -> Conflict:
    return Conflict("The process does not read its input any more.", hint="It closed its stdin, or it has ended.")
