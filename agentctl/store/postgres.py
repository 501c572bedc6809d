"""The store that several machines share: a schema ``agentctl`` in a Postgres database."""

from __future__ import annotations

from collections.abc import Callable

from agentctl.errors import SessionExists
from agentctl.model import Session
from agentctl.store.postgres_connection import Connection, Transaction
from agentctl.store.rows import decode, select
from agentctl.store.sql import SqlStore, Statements


class PostgresStore(SqlStore):
    """Implements ``Store`` on the database that ``url`` names, whose schema is made when it is missing.

    Opening raises ``UsageError`` for a URL that is none, ``StateUnavailable`` when no server answers in time,
    ``StateTooNew``, ``StateNotWritable`` or ``StateError``. A server that restarts is waited for. Leases run by the
    server's clock, since those of the machines differ. Use it from one thread.
    """

    _LABEL = "agentctl.as_json(spec) -> 'labels' ->> ? = ?"
    _LOCK = "FOR UPDATE"

    def __init__(self, url: str, place: Callable[[], str] | str = "") -> None:
        connection = Connection(url)
        try:
            # Only now: a state directory for which no server answered has shared nothing.
            super().__init__(connection, place if isinstance(place, str) else place())
        except BaseException:
            connection.close()
            raise

    def add_session(self, session: Session) -> None:
        try:
            super().add_session(session)
        except SessionExists:
            # It may be our own: written, and the answer lost with the connection.
            there = self._database.rows(select(Session, "WHERE id = ?"), (session.id,))
            if not there or decode(Session, there[0]) != session:
                raise

    def _insert_events(self, db: Transaction, session_id: str, pairs: list[tuple[int, bytes]]) -> None:
        # One statement for all; %b sends the lines as they are instead of as twice as many hexadecimal digits.
        db.execute_native(
            b"INSERT INTO events (session_id, sequence, line)"
            b" SELECT %s, sequence, line FROM unnest(%b::bigint[], %b::bytea[]) AS given (sequence, line)"
            b" ON CONFLICT (session_id, sequence) DO NOTHING",
            (session_id, [sequence for sequence, _ in pairs], [line for _, line in pairs]),
        )

    def now(self) -> float:
        return float(self._database.rows("SELECT extract(epoch FROM clock_timestamp())")[0][0])

    def _now(self, db: Statements) -> float:
        return float(db.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()[0])
