"""SQLite's errors, translated once. Decided on result codes, never on message text."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentctl.errors import AgentctlError, DiskFull, SessionBusy, StateError, StateNotWritable
from agentctl.store.sql import Taken

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_NOT_WRITABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_DISK = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_TAKEN = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}
_ALMOST_NOTHING = 1 << 20

DISK_FULL_HINT = "Free some space, or set AGENTCTL_STATE_DIR to a directory on another disk."


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process holds what this statement needs: worth another try."""
    return _primary(error) in _BUSY


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise ``Taken`` or a child of ``AgentctlError`` for every ``sqlite3.Error`` of the database at ``path``."""
    try:
        yield
    except sqlite3.Error as e:
        raise _translate(e, path) from e


def _primary(error: sqlite3.Error) -> int:
    """The result code without its extension; an error of the Python module itself has none."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF


def _translate(error: sqlite3.Error, path: Path) -> AgentctlError | Taken:
    if getattr(error, "sqlite_errorcode", None) in _TAKEN:
        return Taken()
    code = _primary(error)
    if code == sqlite3.SQLITE_FULL or (code in _DISK and _disk_is_full(path)):
        return DiskFull(f"The disk that holds {path} is full; nothing was changed.", hint=DISK_FULL_HINT)
    if code in _BUSY:
        return SessionBusy(
            f"Another process has kept the state database {path} locked for too long.",
            hint="Another agentctl holds it for long; try again.",
        )
    if code in _NOT_WRITABLE:
        return StateNotWritable(
            f"Cannot write the state database {path}: {error}.",
            hint=f"Make {path.parent} writable, or set AGENTCTL_STATE_DIR to a directory that you can write.",
        )
    if code in _DAMAGED:
        return StateError(
            f"The state database {path} is damaged: {error}.",
            hint=f"Move {path} away to start a new one; the sessions' logs on the volumes are not touched.",
        )
    return StateError(
        f"The state database {path} failed: {error}.", hint="Move it away to start anew, or put a copy of it back."
    )


def _disk_is_full(path: Path) -> bool:
    """SQLite reports a full disk as an I/O error where it maps files into memory."""
    try:
        return shutil.disk_usage(path.parent).free < _ALMOST_NOTHING
    except OSError:
        return False
