"""The store in SQL that SQLite and Postgres both understand; what differs between them is in their own modules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, TypeVar

from agentctl.errors import AlreadyExists, LeaseLost, SessionBusy, SessionExists
from agentctl.model import Lease, Request, Sandbox, Session, Turn, UserAgent, Volume
from agentctl.store import references
from agentctl.store.rows import columns, decode, encode, encode_value, insert, select, upsert
from agentctl.store.sandboxes import PREFIX as SANDBOX
from agentctl.store.sandboxes import SandboxRows

_SESSION = select(Session)
_ORDER = "ORDER BY updated_at DESC, created_at DESC, rowid DESC"
_USED = "CASE WHEN used_at > created_at THEN used_at ELSE created_at END"
_LAST = f"WHERE ephemeral = 0 ORDER BY {_USED} DESC, created_at DESC, rowid DESC LIMIT 1"
_BELONGINGS = ("turns", "events", "requests", "leases")
_ALL = 2**63 - 1

T = TypeVar("T")
Rows = list[tuple[Any, ...]]


class Taken(Exception):
    """A unique value is in the table already; the transaction was rolled back."""


class Statements(Protocol):
    """What a transaction executes. Parameters are marked with ``?``."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any: ...


class Database(Protocol):
    """Raises ``Taken`` and children of ``AgentctlError``, never a driver's error."""

    def close(self) -> None: ...

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> Rows:
        """All rows of one reading statement."""

    def write(self, body: Callable[[Any], T], *, durable: bool = False) -> T:
        """What ``body`` returns, after it ran in one writing transaction; its exception rolls all of it back. It may
        run more than once, when its transaction had to be done again. With ``durable`` it survives the loss of power.
        """


class SqlStore(SandboxRows):
    """Implements ``Store`` on a ``Database``. ``place`` is where this machine's own volumes lie; see ``place.py``."""

    _LABEL: ClassVar[str]
    """A condition that a label is set: two parameters, its key and its value."""

    _LOCK: ClassVar[str]
    """Makes a ``SELECT`` of a session's row keep other writers of that session away until the transaction ends."""

    def __init__(self, database: Database, place: str = "") -> None:
        self._database = database
        self._place = place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def meta(self, key: str, default: str) -> str:
        sql = "SELECT value FROM meta WHERE key = ?"
        found = self._database.rows(sql, (key,))
        if found:
            return str(found[0][0])

        def body(db: Statements) -> str:
            db.execute("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO NOTHING", (key, default))
            return str(db.execute(sql, (key,)).fetchone()[0])

        return self._database.write(body, durable=True)

    # sessions
    def add_session(self, session: Session) -> None:
        with _name_taken(session.name):
            self._do(insert(Session), encode(session), durable=not session.ephemeral)

    def session(self, ref: str) -> Session:
        if ref == references.LAST:
            found = self._database.rows(f"{_SESSION} {_LAST}")
        else:
            ref = encode_value(ref)
            # A name may look like another session's id: the name wins.
            found = self._database.rows(f"{_SESSION} WHERE name = ? OR id = ? ORDER BY name = ? DESC", (ref,) * 3)
        return decode(Session, found[0]) if found else self._session_by_prefix(ref)

    def sessions(
        self, *, limit: int | None = 50, labels: dict[str, str] | None = None, statuses: Sequence[str] = ()
    ) -> list[Session]:
        conditions, parameters = ["1 = 1"], list[Any]()
        for label in (labels or {}).items():
            conditions.append(self._LABEL)
            parameters += map(encode_value, label)
        if statuses:
            conditions.append(f"status IN ({', '.join('?' * len(statuses))})")
            parameters += statuses
        sql = f"{_SESSION} WHERE {' AND '.join(conditions)} {_ORDER} LIMIT ?"
        rows = self._database.rows(sql, (*parameters, _ALL if limit is None else limit))
        return [decode(Session, row) for row in rows]

    def update_session(self, session_id: str, *, lease: Lease | None = None, **fields: Any) -> Session:
        unknown = fields.keys() - set(columns(Session)) | fields.keys() & {"id"}
        if unknown:
            raise TypeError(f"not fields of a session that can be set: {sorted(unknown)}")
        fields.setdefault("updated_at", time.time())
        changes = ", ".join(f"{name} = ?" for name in fields)
        change = f"UPDATE sessions SET {changes} WHERE id = ?"  # noqa: S608 - field names
        values = [encode_value(value) for value in fields.values()]

        def body(db: Statements) -> Session:
            self._last_sequence(db, session_id)
            if lease is not None:
                _refuse_lost(db, session_id, lease.fencing)
            db.execute(change, (*values, session_id))
            return decode(Session, db.execute(f"{_SESSION} WHERE id = ?", (session_id,)).fetchone())

        with _name_taken(fields.get("name", "")):
            return self._database.write(body)

    def delete_session(self, session_id: str) -> None:
        def body(db: Statements) -> None:
            db.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
            for table in _BELONGINGS:
                db.execute(f"DELETE FROM {table} WHERE session_id = ?", (session_id,))  # noqa: S608 - our own names

        self._database.write(body)

    def _session_by_prefix(self, ref: str) -> Session:
        prefix = references.id_prefix(ref)
        if prefix is not None:
            # Ids are ASCII, so everything that starts with the prefix lies below prefix + DEL.
            found = self._database.rows(f"{_SESSION} WHERE id >= ? AND id < ? LIMIT 9", (prefix, prefix + "\x7f"))
            if len(found) == 1:
                return decode(Session, found[0])
            if found:
                raise references.ambiguous(ref, [(row[0], row[1]) for row in found])
        raise references.missing(ref, (name for (name,) in self._database.rows("SELECT name FROM sessions")))

    # sandboxes
    def put_sandbox(self, sandbox: Sandbox) -> None:
        def body(db: Statements) -> None:
            db.execute(f"SELECT id FROM sessions WHERE id = ? {self._LOCK}", (sandbox.session_id,))  # noqa: S608 - no input
            _refuse_lost(db, sandbox.session_id, sandbox.fencing)
            db.execute("DELETE FROM sandboxes WHERE session_id = ? AND id <> ?", (sandbox.session_id, sandbox.id))
            db.execute(upsert(Sandbox, ("id",)), encode(sandbox))

        self._database.write(body)

    def sandbox(self, sandbox_id: str) -> Sandbox | None:
        found = self._database.rows(select(Sandbox, "WHERE id = ?"), (sandbox_id,))
        return decode(Sandbox, found[0]) if found else None

    def sandboxes(self) -> list[Sandbox]:
        return [decode(Sandbox, row) for row in self._database.rows(select(Sandbox, "ORDER BY created_at, id"))]

    def delete_sandbox(self, sandbox_id: str) -> None:
        self._do("DELETE FROM sandboxes WHERE id = ?", (sandbox_id,))

    # turns and requests
    def put_turn(self, turn: Turn) -> None:
        self._put_in_session(turn, turn.session_id)

    def turn(self, session_id: str, turn_id: str) -> Turn | None:
        found = self._database.rows(select(Turn, "WHERE session_id = ? AND id = ?"), (session_id, turn_id))
        return decode(Turn, found[0]) if found else None

    def turns(self, session_id: str, *, open_only: bool = False) -> list[Turn]:
        which = "AND status IN ('queued', 'running', 'waiting')" if open_only else ""
        sql = select(Turn, f"WHERE session_id = ? {which} ORDER BY created_at, rowid")
        return [decode(Turn, row) for row in self._database.rows(sql, (session_id,))]

    def sessions_in_line(self) -> set[str]:
        sql = "SELECT DISTINCT session_id FROM turns WHERE status = 'queued'"  # needs nothing but an index
        return {row[0] for row in self._database.rows(sql)}

    def put_request(self, request: Request) -> None:
        self._put_in_session(request, request.session_id)

    def request(self, session_id: str, request_id: str) -> Request | None:
        found = self._database.rows(select(Request, "WHERE session_id = ? AND id = ?"), (session_id, request_id))
        return decode(Request, found[0]) if found else None

    def requests(self, session_id: str | None = None, *, pending: bool = True) -> list[Request]:
        conditions = ["1 = 1"]
        if session_id is not None:
            conditions.append("session_id = ?")
        if pending:
            conditions.append("status = 'pending'")
        sql = select(Request, f"WHERE {' AND '.join(conditions)} ORDER BY created_at, sequence, rowid")
        rows = self._database.rows(sql, () if session_id is None else (session_id,))
        return [decode(Request, row) for row in rows]

    def _put_in_session(self, row: Turn | Request, session_id: str) -> None:
        sql, values = upsert(type(row), ("session_id", "id")), encode(row)

        def body(db: Statements) -> None:
            self._last_sequence(db, session_id)
            db.execute(sql, values)

        self._database.write(body)

    # events
    def add_events(self, session_id: str, events: Iterable[tuple[int, bytes]]) -> int:
        # A list first: a slow source must not hold the write lock.
        pairs = list(events)
        highest = max((sequence for sequence, _ in pairs), default=0)

        def body(db: Statements) -> int:
            mirrored = self._last_sequence(db, session_id)
            self._insert_events(db, session_id, pairs)
            if highest <= mirrored:
                return mirrored
            now = time.time()
            later = "updated_at = CASE WHEN updated_at > ? THEN updated_at ELSE ? END"
            db.execute(f"UPDATE sessions SET last_sequence = ?, {later} WHERE id = ?", (highest, now, now, session_id))  # noqa: S608 - no input
            return highest

        return self._database.write(body)

    def _insert_events(self, db: Any, session_id: str, pairs: list[tuple[int, bytes]]) -> None:
        """Insert what is not there yet."""
        raise NotImplementedError

    def events(self, session_id: str, *, offset: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        sql = "SELECT sequence, line FROM events WHERE session_id = ? AND sequence > ? ORDER BY sequence LIMIT ?"
        rows: list[Any] = self._database.rows(sql, (session_id, offset, _ALL if limit is None else limit))
        return rows

    # volumes
    def add_volume(self, volume: Volume) -> Volume:
        self._do(f"{insert(Volume)} ON CONFLICT DO NOTHING", encode(volume))
        return self.volume(volume.provider, volume.name) or volume

    def volume(self, provider: str, name: str) -> Volume | None:
        sql = select(Volume, "WHERE provider = ? AND name = ? AND place IN ('', ?) ORDER BY place DESC")
        found = self._database.rows(sql, (provider, name, self._place))
        return decode(Volume, found[0]) if found else None

    def volumes(self, *, everywhere: bool = False) -> list[Volume]:
        if everywhere:
            rows = self._database.rows(select(Volume, "ORDER BY provider, name, place"))
        else:
            rows = self._database.rows(select(Volume, "WHERE place IN ('', ?) ORDER BY provider, name"), (self._place,))
        return [decode(Volume, row) for row in rows]

    def delete_volume(self, provider: str, name: str) -> None:
        sql = "DELETE FROM volumes WHERE provider = ? AND name = ? AND place IN ('', ?)"
        self._do(sql, (provider, name, self._place))

    # agents that the user made
    def add_user_agent(self, agent: UserAgent) -> None:
        try:
            self._do(insert(UserAgent), encode(agent), durable=True)
        except Taken as e:
            raise AlreadyExists(
                f"There is an agent called {agent.name} already.", hint="Choose another name, or use: agents update"
            ) from e

    def put_user_agent(self, agent: UserAgent) -> None:
        self._do(upsert(UserAgent, ("name",)), encode(agent), durable=True)

    def user_agent(self, name: str) -> UserAgent | None:
        found = self._database.rows(select(UserAgent, "WHERE name = ?"), (encode_value(name),))
        return decode(UserAgent, found[0]) if found else None

    def user_agents(self) -> list[UserAgent]:
        return [decode(UserAgent, row) for row in self._database.rows(select(UserAgent, "ORDER BY name"))]

    def delete_user_agent(self, name: str) -> None:
        self._do("DELETE FROM user_agents WHERE name = ?", (encode_value(name),))

    # leases
    def acquire_lease(self, session_id: str, *, holder: str, ttl_s: float) -> Lease:
        def body(db: Statements) -> Lease:
            self._must_be(db, session_id)
            sql = "SELECT holder, fencing, expires_at FROM leases WHERE session_id = ?"
            held_by, fencing, expires_at = db.execute(sql, (session_id,)).fetchone() or ("", 0, 0.0)
            now = self._now(db)
            if held_by not in ("", holder) and expires_at > now and not _is_dead(held_by):
                raise _held(session_id, held_by, expires_at - now)
            lease = Lease(session_id=session_id, holder=holder, fencing=fencing + 1, expires_at=now + ttl_s)
            db.execute(_PUT_LEASE, (lease.session_id, lease.holder, lease.fencing, lease.expires_at))
            return lease

        return self._database.write(body)

    def renew_lease(self, lease: Lease, *, ttl_s: float) -> Lease:
        def body(db: Statements) -> Lease:
            self._must_be(db, lease.session_id)
            sql = "SELECT 1 FROM leases WHERE session_id = ? AND fencing = ? AND holder = ?"
            if db.execute(sql, (lease.session_id, lease.fencing, lease.holder)).fetchone() is None:
                raise _lost(lease.session_id)
            renewed = replace(lease, expires_at=self._now(db) + ttl_s)
            db.execute(_PUT_LEASE, (renewed.session_id, renewed.holder, renewed.fencing, renewed.expires_at))
            return renewed

        return self._database.write(body)

    def release_lease(self, lease: Lease) -> None:
        # The row stays: its fencing number must never be given out again.
        sql = "UPDATE leases SET holder = '', expires_at = 0 WHERE session_id = ? AND fencing = ?"
        self._do(sql, (lease.session_id, lease.fencing))

    def now(self) -> float:
        return time.time()

    def faults(self) -> list[str]:
        return []

    def _now(self, db: Statements) -> float:
        """The one clock of all who share this database."""
        return time.time()

    def _do(self, sql: str, parameters: tuple[Any, ...], *, durable: bool = False) -> None:
        self._database.write(lambda db: db.execute(sql, parameters), durable=durable)

    def _must_be(self, db: Statements, owner: str) -> None:
        """What a lease is of: a session, or a sandbox of its own."""
        if not owner.startswith(SANDBOX):
            self._last_sequence(db, owner)
        elif db.execute(f"SELECT 1 FROM sandboxes WHERE id = ? {self._LOCK}", (owner,)).fetchone() is None:  # noqa: S608 - no input
            raise references.missing_sandbox(owner, ())

    def _last_sequence(self, db: Statements, session_id: str) -> int:
        """Guards every write that belongs to a session: nothing may come back after ``delete_session``."""
        sql = f"SELECT last_sequence FROM sessions WHERE id = ? {self._LOCK}"  # noqa: S608 - no input
        found = db.execute(sql, (session_id,)).fetchone()
        if found is None:
            raise references.missing(session_id, ())
        return int(found[0])


_PUT_LEASE = """
INSERT INTO leases (session_id, holder, fencing, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (session_id) DO UPDATE
SET holder = excluded.holder, fencing = excluded.fencing, expires_at = excluded.expires_at
"""


@contextmanager
def _name_taken(name: str) -> Iterator[None]:
    try:
        yield
    except Taken as e:
        raise SessionExists(
            f"There is a session named {name!r} already.",
            hint=f"`agentctl sessions get {name}` shows it; `--if-not-exists` takes it when it has the same spec.",
        ) from e


def _refuse_lost(db: Statements, session_id: str | None, fencing: int) -> None:
    found = db.execute("SELECT fencing FROM leases WHERE session_id = ?", (session_id,)).fetchone()
    if found is not None and found[0] > fencing:
        raise _lost(session_id)


def _kind(owner: str | None) -> str:
    return "sandbox" if owner and owner.startswith(SANDBOX) else "session"


def _lost(session_id: str | None) -> LeaseLost:
    return LeaseLost(
        f"Another agentctl process has taken {_kind(session_id)} {session_id} over.",
        hint="Do it again: it lives as the other command made it.",
    )


def _is_dead(holder: str) -> bool:
    from agentctl.store.leases import is_dead

    return is_dead(holder)


def _held(session_id: str, holder: str, left_s: float) -> SessionBusy:
    return SessionBusy(
        f"Another agentctl process drives {_kind(session_id)} {session_id} now ({holder}).",
        hint=f"Try again when it is done; if it hangs, its lease runs out in {max(1, round(left_s))} s.",
        details={"holder": holder, "expires_in_s": round(left_s, 1)},
    )
