"""The right to write a session's log: one writer at a time, and never again one whose lease was taken over.

The file ``lock`` is locked for as long as its writer lives, and holds the highest fencing number that wrote here. A
writer with a higher number takes the log over even from one that is alive, stopped or out of reach: it puts another
file in the place of ``lock``. What the old writer holds then has no name any more, and that is all it has to look at.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from agentctl.errors import Conflict, LeaseLost, StateError

_NAME = "lock"
_NUMBER_BYTES = 20


class LogLock:
    """Held from its making to ``close``. ``taken_from`` is the fencing number of the living writer that lost it."""

    def __init__(self, directory: Path, session_id: str, fencing: int) -> None:
        """Raise ``LeaseLost`` when a higher number wrote here, ``Conflict`` when a writer of the same one does now."""
        self._path = directory / _NAME
        self._session_id = session_id
        self.taken_from: int | None = None
        self._fd = self._take(fencing)

    def check(self) -> None:
        """Raise ``LeaseLost`` when another writer has taken the log over, ``StateError`` when it was deleted."""
        if os.fstat(self._fd).st_nlink:
            return
        if self._path.exists():
            raise _lost(self._session_id)
        raise StateError(
            f"The session log in {self._path.parent} was deleted while its session was alive.",
            hint="Its events up to now may be in the store: agentctl sessions events SESSION",
        )

    def close(self) -> None:
        os.close(self._fd)

    def _take(self, fencing: int) -> int:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                free = _try_lock(fd)
                seen = _number_in(fd)
                if seen > fencing:
                    raise _lost(self._session_id)
                if not free:
                    self._refuse_equal(seen, fencing)
                    return self._replace(fencing, seen)
                if os.fstat(fd).st_nlink:
                    _write_number(fd, fencing, seen)
                    held, fd = fd, -1
                    return held
            finally:
                if fd >= 0:
                    os.close(fd)

    def _refuse_equal(self, seen: int, fencing: int) -> None:
        if seen == fencing:
            raise Conflict(
                f"Another supervisor is writing the log of session {self._session_id} ({self._path.parent}).",
                hint="Stop its sandbox first; one log has one writer.",
            )

    def _replace(self, fencing: int, seen: int) -> int:
        """Another file in the place of the one that is held, locked before it can be seen."""
        new = self._path.with_name(f"{_NAME}.{os.getpid()}")
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_number(fd, fencing, 0)
            os.rename(new, self._path)
        except BaseException:
            os.close(fd)
            raise
        self.taken_from = seen
        return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return False
    return True


def _number_in(fd: int) -> int:
    digits = os.pread(fd, _NUMBER_BYTES, 0).strip()
    return int(digits) if digits.isdigit() else 0


def _write_number(fd: int, fencing: int, seen: int) -> None:
    """Only a higher one: numbers have one length, so that no reader sees a part of two."""
    if fencing > seen:
        os.pwrite(fd, b"%0*d" % (_NUMBER_BYTES, fencing), 0)


def _lost(session_id: str) -> LeaseLost:
    return LeaseLost(
        f"Another supervisor has taken session {session_id} over; this one may not write its log any more.",
        hint="Do it again: the session lives in the other one's sandbox.",
    )
