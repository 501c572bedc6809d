"""The state directory's store: one SQLite file, shared by every agentctl process of the user."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from agentctl.store.sql import SqlStore
from agentctl.store.sqlite_connection import Connection


class SqliteStore(SqlStore):
    """Implements ``Store`` on the database file at ``path``, which is made (mode 0600) when it is missing.

    Opening raises ``StateTooNew``, ``StateNotWritable``, ``DiskFull`` or ``StateError``. Use it from one thread.
    """

    _LABEL = "EXISTS (SELECT 1 FROM json_each(spec, '$.labels') WHERE key = ? AND value = ?)"
    _LOCK = ""  # a writing transaction has the whole file to itself

    def __init__(self, path: Path) -> None:
        self._connection = Connection(path)
        super().__init__(self._connection)

    def faults(self) -> list[str]:
        found = [str(row[0]) for row in self._database.rows("PRAGMA quick_check(3)")]
        return [] if found == ["ok"] else found

    def _insert_events(self, db: sqlite3.Connection, session_id: str, pairs: list[tuple[int, bytes]]) -> None:
        rows = [(session_id, sequence, line) for sequence, line in pairs]
        db.executemany("INSERT OR IGNORE INTO events (session_id, sequence, line) VALUES (?, ?, ?)", rows)
