"""One connection to the state database: opened privately, brought up to date, patient with other processes."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from agentctl.errors import DiskFull, StateNotWritable, StateTooNew
from agentctl.paths import StatePaths
from agentctl.store.sqlite_errors import is_busy, translated

SCHEMA_VERSION = 7
"""How many migrations there are: kept here, so that a database in order never imports ``migrations``."""

BUSY_TIMEOUT_S = 10.0

T = TypeVar("T")


class Connection:
    """Statements and transactions on one database file. Raises only children of ``AgentctlError``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        StatePaths(path.parent).ensure()
        _make_private(path)
        self._alone = False
        self._open()
        if self._alone:
            self._db.close()

    def _open(self) -> None:
        """Connect; on a full disk alone, which keeps the journal's index in memory instead of in a file beside it."""
        self._alone = False
        try:
            self._connect()
        except DiskFull:
            self._alone = True
            self._connect("PRAGMA locking_mode = EXCLUSIVE")

    def _connect(self, *first: str) -> None:
        with translated(self.path):
            self._db = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            try:
                for statement in first:
                    self._db.execute(statement)
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        with translated(self.path):
            self._db.close()

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of one reading statement."""
        with translated(self.path), self._held():
            return patiently(lambda: self._db.execute(sql, parameters).fetchall())

    def write(self, body: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> T:
        """What ``body`` returns, after it ran in one writing transaction."""
        with self.writing(durable=durable) as db:
            return body(db)

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the write lock from its start; an exception rolls all of it back.

        It survives the death of the process. With ``durable`` it survives the loss of power too.
        """
        with translated(self.path), self._held(), self._transaction(durable) as db:
            yield db

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Have the database open. Who has it alone gives it back at once: all others wait."""
        if not self._alone:
            yield
            return
        self._open()
        try:
            yield
        finally:
            if self._alone:
                self._db.close()

    @contextmanager
    def _transaction(self, durable: bool) -> Iterator[sqlite3.Connection]:
        with translated(self.path):
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            # Deferred transactions fail at once when two of them turn from reading to writing.
            patiently(lambda: self._db.execute("BEGIN IMMEDIATE"))
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.rollback()
                raise

    def _prepare(self) -> None:
        version = self._version()
        if version == SCHEMA_VERSION:
            return
        # Turning the journal over is refused at once, not waited for, when two processes do it.
        patiently(lambda: self._db.execute("PRAGMA journal_mode = WAL"))
        with self._transaction(durable=True) as db:
            if self._version() < SCHEMA_VERSION:
                from agentctl.store import migrations

                migrations.apply(db)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _version(self) -> int:
        version: int = patiently(lambda: self._db.execute("PRAGMA user_version").fetchone())[0]
        if version > SCHEMA_VERSION:
            raise StateTooNew(
                f"{self.path} was written by a newer agentctl (schema {version}, this one knows {SCHEMA_VERSION}).",
                hint="Upgrade agentctl, or set AGENTCTL_STATE_DIR to another directory.",
            )
        return version


def patiently(statement: Callable[[], T], deadline_s: float = BUSY_TIMEOUT_S) -> T:
    """Run ``statement`` again while other processes are in the way, for at most ``deadline_s``.

    SQLite's own busy timeout does not cover every lock: recovery, the switch to WAL and the last close answer at once.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            return statement()
        except sqlite3.OperationalError as e:
            if not is_busy(e) or time.monotonic() >= deadline:
                raise
        time.sleep(random.uniform(0.002, 0.02))  # noqa: S311 - spreads rivals apart, keeps no secret


def _make_private(path: Path) -> None:
    """Create the file 0600 before SQLite would with the user's umask; its journal files copy the mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as e:
        raise StateNotWritable(
            f"Cannot use the state database {path}: {e.strerror}.",
            hint=f"Make {path} writable, or set AGENTCTL_STATE_DIR to a directory that you can write.",
        ) from e
