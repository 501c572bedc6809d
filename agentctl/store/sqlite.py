"""The state directory's store: one SQLite file, shared by every agentctl process of the user."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agentctl.errors import SessionBusy, SessionExists
from agentctl.model import Lease, Request, Sandbox, Session, Turn, Volume
from agentctl.store import references
from agentctl.store.rows import columns, decode, encode, encode_value, insert, select, upsert
from agentctl.store.sqlite_connection import Connection

_SESSION = select(Session)
_ORDER = "ORDER BY updated_at DESC, created_at DESC, rowid DESC"
_TAKEN = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}
_BELONGINGS = ("turns", "events", "requests", "leases")


class SqliteStore:
    """Implements ``Store`` on the database file at ``path``, which is made (mode 0600) when it is missing.

    Opening raises ``StateTooNew``, ``StateNotWritable``, ``DiskFull`` or ``StateError``. Use it from one thread.
    """

    def __init__(self, path: Path) -> None:
        self._connection = Connection(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def meta(self, key: str, default: str) -> str:
        found = self._connection.rows("SELECT value FROM meta WHERE key = ?", (key,))
        if found:
            return str(found[0][0])
        with self._connection.writing(durable=True) as db:
            db.execute("INSERT OR IGNORE INTO meta (key, value) VALUES (?, ?)", (key, default))
            return str(db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])

    # sessions
    def add_session(self, session: Session) -> None:
        with self._connection.writing(durable=not session.ephemeral) as db, _name_taken(session.name):
            db.execute(insert(Session), encode(session))

    def session(self, ref: str) -> Session:
        if ref == references.LAST:
            found = self._connection.rows(f"{_SESSION} {_ORDER} LIMIT 1")
        else:
            # A name may look like another session's id: the name wins.
            found = self._connection.rows(f"{_SESSION} WHERE name = ? OR id = ? ORDER BY name = ? DESC", (ref,) * 3)
        return decode(Session, found[0]) if found else self._session_by_prefix(ref)

    def sessions(
        self, *, limit: int | None = 50, labels: dict[str, str] | None = None, statuses: Sequence[str] = ()
    ) -> list[Session]:
        conditions, parameters = ["1"], list[Any]()
        for label in (labels or {}).items():
            conditions.append("EXISTS (SELECT 1 FROM json_each(spec, '$.labels') WHERE key = ? AND value = ?)")
            parameters += label
        if statuses:
            conditions.append(f"status IN ({', '.join('?' * len(statuses))})")
            parameters += statuses
        sql = f"{_SESSION} WHERE {' AND '.join(conditions)} {_ORDER} LIMIT ?"
        rows = self._connection.rows(sql, (*parameters, -1 if limit is None else limit))
        return [decode(Session, row) for row in rows]

    def update_session(self, session_id: str, **fields: Any) -> Session:
        unknown = fields.keys() - set(columns(Session)) | fields.keys() & {"id"}
        if unknown:
            raise TypeError(f"not fields of a session that can be set: {sorted(unknown)}")
        fields.setdefault("updated_at", time.time())
        changes = ", ".join(f"{name} = ?" for name in fields)
        values = [encode_value(value) for value in fields.values()]
        with self._connection.writing() as db, _name_taken(fields.get("name", "")):
            _last_sequence(db, session_id)
            db.execute(f"UPDATE sessions SET {changes} WHERE id = ?", (*values, session_id))  # noqa: S608 - field names
            return decode(Session, db.execute(f"{_SESSION} WHERE id = ?", (session_id,)).fetchone())

    def delete_session(self, session_id: str) -> None:
        with self._connection.writing() as db:
            db.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
            for table in _BELONGINGS:
                db.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))  # noqa: S608 - our own names

    def _session_by_prefix(self, ref: str) -> Session:
        prefix = references.id_prefix(ref)
        if prefix is not None:
            # Ids are ASCII, so everything that starts with the prefix lies below prefix + DEL.
            found = self._connection.rows(f"{_SESSION} WHERE id >= ? AND id < ? LIMIT 9", (prefix, prefix + "\x7f"))
            if len(found) == 1:
                return decode(Session, found[0])
            if found:
                raise references.ambiguous(ref, [(row[0], row[1]) for row in found])
        raise references.missing(ref, (name for (name,) in self._connection.rows("SELECT name FROM sessions")))

    # sandboxes
    def put_sandbox(self, sandbox: Sandbox) -> None:
        with self._connection.writing() as db:
            db.execute("DELETE FROM sandboxes WHERE session_id = ? AND id <> ?", (sandbox.session_id, sandbox.id))
            db.execute(upsert(Sandbox, ("id",)), encode(sandbox))

    def sandbox(self, sandbox_id: str) -> Sandbox | None:
        found = self._connection.rows(select(Sandbox, "WHERE id = ?"), (sandbox_id,))
        return decode(Sandbox, found[0]) if found else None

    def sandboxes(self) -> list[Sandbox]:
        return [decode(Sandbox, row) for row in self._connection.rows(select(Sandbox, "ORDER BY created_at, id"))]

    def delete_sandbox(self, sandbox_id: str) -> None:
        with self._connection.writing() as db:
            db.execute("DELETE FROM sandboxes WHERE id = ?", (sandbox_id,))

    # turns and requests
    def put_turn(self, turn: Turn) -> None:
        self._put_in_session(turn, turn.session_id)

    def turn(self, session_id: str, turn_id: str) -> Turn | None:
        found = self._connection.rows(select(Turn, "WHERE session_id = ? AND id = ?"), (session_id, turn_id))
        return decode(Turn, found[0]) if found else None

    def turns(self, session_id: str) -> list[Turn]:
        sql = select(Turn, "WHERE session_id = ? ORDER BY created_at, rowid")
        return [decode(Turn, row) for row in self._connection.rows(sql, (session_id,))]

    def put_request(self, request: Request) -> None:
        self._put_in_session(request, request.session_id)

    def requests(self, session_id: str | None = None, *, pending: bool = True) -> list[Request]:
        conditions = ["1"]
        if session_id is not None:
            conditions.append("session_id = ?")
        if pending:
            conditions.append("status = 'pending'")
        sql = select(Request, f"WHERE {' AND '.join(conditions)} ORDER BY created_at, sequence, rowid")
        rows = self._connection.rows(sql, () if session_id is None else (session_id,))
        return [decode(Request, row) for row in rows]

    def _put_in_session(self, row: Turn | Request, session_id: str) -> None:
        with self._connection.writing() as db:
            _last_sequence(db, session_id)
            db.execute(upsert(type(row), ("session_id", "id")), encode(row))

    # events
    def add_events(self, session_id: str, events: Iterable[tuple[int, bytes]]) -> int:
        # A list first: a slow source must not hold the write lock.
        rows = [(session_id, sequence, line) for sequence, line in events]
        highest = max((sequence for _, sequence, _ in rows), default=0)
        with self._connection.writing() as db:
            mirrored = _last_sequence(db, session_id)
            db.executemany("INSERT OR IGNORE INTO events (session_id, sequence, line) VALUES (?, ?, ?)", rows)
            if highest <= mirrored:
                return mirrored
            change = "UPDATE sessions SET last_sequence = ?, updated_at = max(updated_at, ?) WHERE id = ?"
            db.execute(change, (highest, time.time(), session_id))
        return highest

    def events(self, session_id: str, *, offset: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        sql = "SELECT sequence, line FROM events WHERE session_id = ? AND sequence > ? ORDER BY sequence LIMIT ?"
        rows: list[Any] = self._connection.rows(sql, (session_id, offset, -1 if limit is None else limit))
        return rows

    # volumes
    def put_volume(self, volume: Volume) -> None:
        with self._connection.writing() as db:
            db.execute(upsert(Volume, ("provider", "name")), encode(volume))

    def volume(self, provider: str, name: str) -> Volume | None:
        found = self._connection.rows(select(Volume, "WHERE provider = ? AND name = ?"), (provider, name))
        return decode(Volume, found[0]) if found else None

    def volumes(self) -> list[Volume]:
        return [decode(Volume, row) for row in self._connection.rows(select(Volume, "ORDER BY provider, name"))]

    def delete_volume(self, provider: str, name: str) -> None:
        with self._connection.writing() as db:
            db.execute("DELETE FROM volumes WHERE provider = ? AND name = ?", (provider, name))

    # leases
    def acquire_lease(self, session_id: str, *, holder: str, ttl_s: float) -> Lease:
        now = time.time()
        with self._connection.writing() as db:
            _last_sequence(db, session_id)
            sql = "SELECT holder, fencing, expires_at FROM leases WHERE session_id = ?"
            held_by, fencing, expires_at = db.execute(sql, (session_id,)).fetchone() or ("", 0, 0.0)
            if held_by not in ("", holder) and expires_at > now and not _is_dead(held_by):
                raise _held(session_id, held_by, expires_at - now)
            lease = Lease(session_id=session_id, holder=holder, fencing=fencing + 1, expires_at=now + ttl_s)
            db.execute(
                "INSERT OR REPLACE INTO leases (session_id, holder, fencing, expires_at) VALUES (?, ?, ?, ?)",
                (lease.session_id, lease.holder, lease.fencing, lease.expires_at),
            )
        return lease

    def release_lease(self, lease: Lease) -> None:
        with self._connection.writing() as db:
            # The row stays: its fencing number must never be given out again.
            db.execute(
                "UPDATE leases SET holder = '', expires_at = 0 WHERE session_id = ? AND fencing = ?",
                (lease.session_id, lease.fencing),
            )


def _last_sequence(db: sqlite3.Connection, session_id: str) -> int:
    """Guards every write that belongs to a session: nothing may come back after ``delete_session``."""
    found = db.execute("SELECT last_sequence FROM sessions WHERE id = ?", (session_id,)).fetchone()
    if found is None:
        raise references.missing(session_id, ())
    return int(found[0])


@contextmanager
def _name_taken(name: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as e:
        if e.sqlite_errorcode not in _TAKEN:
            raise
        raise SessionExists(
            f"There is a session named {name!r} already.",
            hint=f"`agentctl sessions get {name}` shows it; `--if-not-exists` takes it when it has the same spec.",
        ) from e


def _is_dead(holder: str) -> bool:
    from agentctl.store.leases import is_dead

    return is_dead(holder)


def _held(session_id: str, holder: str, left_s: float) -> SessionBusy:
    return SessionBusy(
        f"Another agentctl process drives session {session_id} now ({holder}).",
        hint=f"Try again when it is done; if it hangs, its lease runs out in {max(1, round(left_s))} s.",
        details={"holder": holder, "expires_in_s": round(left_s, 1)},
    )
