"""One connection to a shared database, made again when the server went away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import psycopg

from agentctl.errors import StateTooNew
from agentctl.store.postgres_errors import TryAgain, translated
from agentctl.store.postgres_url import Target

RECONNECT_S = 10.0
"""How long a server that was there is waited for: a restart takes a few seconds."""

_PAUSE_S = 0.05
_SETTINGS = b"""
SET search_path TO agentctl;
SET lock_timeout TO '10s';
SET statement_timeout TO '60s';
SET idle_in_transaction_session_timeout TO '60s'
"""
"""A client that is stopped amid a transaction must not keep the others out for ever."""

T = TypeVar("T")

# It would tell on stderr what we raise as errors, or mend.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


class Transaction:
    """What a body of ``Connection.write`` executes its statements by."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self._db = db

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> psycopg.Cursor[Any]:
        return self._db.execute(_native(sql), parameters)

    def execute_native(self, sql: bytes, parameters: Sequence[Any]) -> psycopg.Cursor[Any]:
        """With the driver's own marks for parameters."""
        return self._db.execute(sql, parameters)


class Connection:
    """Implements ``sql.Database``. What is lost with its connection is done again, on a new one, for ``RECONNECT_S``.

    So a body may have been written already when it is written again: every body has to bear that.
    """

    def __init__(self, url: str) -> None:
        self._target = Target(url)
        self._db: psycopg.Connection[Any] | None = None
        try:
            self._patiently(self._prepare)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._db is not None:
            self._db.close()

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of one reading statement."""
        return self._patiently(lambda db: db.execute(_native(sql), parameters).fetchall())

    def write(self, body: Callable[[Transaction], T], *, durable: bool = False) -> T:
        """What ``body`` returns, after it ran in one writing transaction; every one survives the loss of power."""
        return self._patiently(lambda db: _transaction(db, body))

    def _prepare(self, db: psycopg.Connection[Any]) -> None:
        from agentctl.store import postgres_migrations as migrations

        version = migrations.version(db)
        if version > migrations.LATEST:
            raise StateTooNew(
                f"{self._target} was written by a newer agentctl"
                f" (schema {version}, this one knows {migrations.LATEST}).",
                hint="Upgrade agentctl, or name another database.",
            )
        if version < migrations.LATEST:
            migrations.apply(db)

    def _patiently(self, action: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Do ``action`` on a living connection; again when that is lost, or when rivals are in the way."""
        deadline = time.monotonic() + RECONNECT_S
        while True:
            was_there = self._db is not None
            try:
                with translated(self._target, was_there=was_there):
                    return action(self._living())
            except TryAgain as e:
                if e.is_lost:
                    self.close()
                if time.monotonic() >= deadline:
                    raise e.error from e.__cause__
            time.sleep(_PAUSE_S)

    def _living(self) -> psycopg.Connection[Any]:
        if self._db is None or self._db.closed:
            self._db = psycopg.connect(**self._target.parameters, autocommit=True, prepare_threshold=None)
            self._db.execute(_SETTINGS)
        return self._db


def _transaction(db: psycopg.Connection[Any], body: Callable[[Transaction], T]) -> T:
    with db.transaction():
        return body(Transaction(db))


@lru_cache(maxsize=256)
def _native(sql: str) -> bytes:
    """The statement with psycopg's marks. No statement of ours has a ``?`` or ``%`` of another meaning."""
    return sql.replace("?", "%s").encode()
