"""Postgres's errors, translated once. Decided on SQLSTATE, never on message text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import pq

from agentctl.errors import (
    AgentctlError,
    DiskFull,
    SessionBusy,
    StateError,
    StateNotWritable,
    StateUnavailable,
)
from agentctl.store.postgres_url import Target
from agentctl.store.sql import Taken

_UNIQUE = "23505"
_RIVALS = {"40001", "40P01", "55P03"}  # serialization failure, deadlock, lock timeout
_GOING_OR_COMING = {"57P01", "57P02", "57P03", "57P05", "25P03"}  # shut down, crashed, starting up, idle for too long
_FORBIDDEN = {"42501", "25006"}  # no privilege, a server that only reads


class TryAgain(Exception):
    """The same may succeed now. ``error`` is what to raise when it is too late for that."""

    def __init__(self, error: AgentctlError, *, is_lost: bool) -> None:
        super().__init__()
        self.error = error
        self.is_lost = is_lost


@contextmanager
def translated(target: Target, *, was_there: bool) -> Iterator[None]:
    """Raise ``Taken``, ``TryAgain`` or a child of ``AgentctlError`` for every error of the driver. ``was_there``: the
    server answered before, so that it is worth waiting for."""
    try:
        yield
    except psycopg.Error as e:
        raise _translate(e, target, was_there) from (None if _may_tell(e) else e)


def _may_tell(error: psycopg.Error) -> bool:
    """libpq's own text may repeat what it was given."""
    return error.sqlstate is None


def _translate(error: psycopg.Error, target: Target, was_there: bool) -> Exception:
    state = error.sqlstate or ""
    if state == _UNIQUE:
        return Taken()
    if state in _RIVALS:
        return TryAgain(_locked(target), is_lost=False)
    if state in _GOING_OR_COMING or (was_there and _is_lost(error)):
        return TryAgain(_gone(error, target), is_lost=True)
    if _is_lost(error):
        return _not_connected(error, target)
    if state in ("53100", "53000"):
        return DiskFull(f"{target} has no space left; nothing was changed.", hint="Free some space on its server.")
    if state in _FORBIDDEN:
        return StateNotWritable(
            f"{target} cannot be written: {_said(error, target)}.",
            hint="The user needs CREATE on the database once, and a server that is no read-only replica.",
        )
    return StateError(
        f"{target} failed: {_said(error, target)}.",
        hint="If its schema `agentctl` was changed by hand, put a backup of it back.",
    )


def _is_lost(error: psycopg.Error) -> bool:
    """Whether there is no connection (any more). Without a SQLSTATE it is not the server that speaks."""
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08").startswith("08")


def _said(error: psycopg.Error, target: Target) -> str:
    """The server's own first line, else libpq's."""
    lines = (error.diag.message_primary or str(error)).splitlines() or [type(error).__name__]
    return target.without_password(lines[0]).removeprefix("connection failed: ").strip().rstrip(".")


def _gone(error: psycopg.Error, target: Target) -> StateUnavailable:
    return StateUnavailable(
        f"{target} went away and did not come back: {_said(error, target)}.",
        hint="Start the server, then do it again. What was being written is there whole or not at all.",
    )


def _not_connected(error: psycopg.Error, target: Target) -> Exception:
    """Of a connection that never was libpq gives no SQLSTATE; its ping tells at least who is to blame."""
    answer = target.ping()
    if answer == pq.Ping.REJECT:
        return TryAgain(_gone(error, target), is_lost=True)
    if answer == pq.Ping.OK:
        return StateUnavailable(
            f"{target} refused the connection: {_said(error, target)}.",
            hint="Check the user, the password and the database's name in the database URL.",
        )
    return StateUnavailable(
        f"{target} does not answer: {_said(error, target)}.",
        hint="Check that the server runs and that this machine reaches it, or leave the database URL out.",
    )


def _locked(target: Target) -> SessionBusy:
    return SessionBusy(
        f"{target} has been kept locked by another process for too long.",
        hint="Another agentctl is at work; try again.",
    )
