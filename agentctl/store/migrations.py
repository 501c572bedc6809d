"""The schema of the state database, as append-only numbered migrations. A migration that shipped is never edited.

Imported only when a database has to be brought up to date, because sqlite-utils costs 77 ms.

Tables hold one row per dataclass of ``model.py``, one column per field; dicts are JSON text, times are Unix seconds.
Users may query the file. The tables may change with a release; these views keep their columns:

``session_overview``
    ``name, id, status, agent, provider, volume, workspace, model, mode, title, created, updated`` (UTC text),
    ``turns, events, pending_requests`` (counts; ``events`` is the last sequence), ``last_outcome``,
    ``cost, currency`` (null when the agent tells none), ``labels`` (JSON).

``turn_overview``
    ``session, session_id, id, status, outcome, stop_reason, created, ended`` (UTC text), ``duration_s``,
    ``first_sequence, last_sequence, text`` (the final text), ``error`` (its message).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlite_utils import Database, Migrations

if TYPE_CHECKING:
    import sqlite3

MIGRATIONS = Migrations("agentctl")


def apply(db: sqlite3.Connection) -> None:
    """Apply what is pending, inside the caller's transaction."""
    MIGRATIONS.apply(Database(db))


@MIGRATIONS()
def m001_initial(db: Database) -> None:
    db.create_table("meta", {"key": str, "value": str}, pk="key", not_null={"value"})
    _sessions(db)
    _sandboxes_and_volumes(db)
    _turns(db)
    _requests(db)
    _events(db)
    _leases(db)


@MIGRATIONS()
def m002_overviews(db: Database) -> None:
    db.create_view("session_overview", _SESSION_OVERVIEW)
    db.create_view("turn_overview", _TURN_OVERVIEW)


@MIGRATIONS()
def m003_places(db: Database) -> None:
    for table in ("sessions", "volumes"):
        db.table(table).add_column("place", str, not_null_default="")
    db.table("requests").create_index(["session_id", "status"])
    db.table("turns").create_index(["session_id", "status"])


@MIGRATIONS()
def m004_user_agents(db: Database) -> None:
    columns = {"name": str, "base": str, "settings": str, "created_at": float, "updated_at": float}
    db.create_table("user_agents", columns, pk="name", not_null=columns.keys() - {"name"})


@MIGRATIONS()
def m005_sandboxes_of_their_own(db: Database) -> None:
    sandboxes = db.table("sandboxes")
    for name, kind in (("name", str), ("spec", str), ("ttl_s", float), ("error", str)):
        sandboxes.add_column(name, kind)
    sandboxes.add_column("status", str, not_null_default="running")
    sandboxes.add_column("updated_at", float, not_null_default=0.0)
    sandboxes.add_column("place", str, not_null_default="")
    sandboxes.create_index(["name"], unique=True)
    events = {"sandbox_id": str, "sequence": int, "event_id": str, "name": str, "at": float, "line": bytes}
    db.create_table("sandbox_events", events, pk=("sandbox_id", "sequence"), not_null={"event_id", "at", "line"})
    db.table("sandbox_events").create_index(["name"])


@MIGRATIONS()
def m006_used_at(db: Database) -> None:
    db.table("sessions").add_column("used_at", float, not_null_default=0.0)
    db.execute("UPDATE sessions SET used_at = updated_at")


@MIGRATIONS()
def m007_unasked_volumes(db: Database) -> None:
    db.table("volumes").add_column("unasked", int, not_null_default=0)


def _sessions(db: Database) -> None:
    columns = {
        **dict.fromkeys(("id", "name", "spec", "status"), str),
        **dict.fromkeys(("created_at", "updated_at"), float),
        **dict.fromkeys(("title", "native_session_id", "sandbox_id"), str),
        "last_sequence": int,
        **dict.fromkeys(("usage", "cost", "last_turn_id", "last_outcome"), str),
        "ephemeral": int,
    }
    required = {"name", "spec", "status", "created_at", "updated_at", "last_sequence", "ephemeral"}
    sessions = db.create_table("sessions", columns, pk="id", not_null=required)
    sessions.create_index(["name"], unique=True)
    sessions.create_index(["updated_at"])


def _sandboxes_and_volumes(db: Database) -> None:
    sandbox = {"id": str, "session_id": str, "provider": str, "handle": str, "labels": str}
    sandboxes = db.create_table(
        "sandboxes",
        {**sandbox, "created_at": float, "fencing": int},
        pk="id",
        not_null={"provider", "handle", "labels", "created_at", "fencing"},
    )
    sandboxes.create_index(["session_id"])
    db.create_table(
        "volumes",
        {"name": str, "provider": str, "handle": str, "created_at": float},
        pk=("provider", "name"),
        not_null={"handle", "created_at"},
    )


def _turns(db: Database) -> None:
    columns = {
        **dict.fromkeys(("id", "session_id", "status"), str),
        "created_at": float,
        **dict.fromkeys(("first_sequence", "last_sequence"), int),
        **dict.fromkeys(("outcome", "stop_reason"), str),
        "ended_at": float,
        "result": str,
    }
    db.create_table("turns", columns, pk=("session_id", "id"), not_null={"status", "created_at"})


def _requests(db: Database) -> None:
    columns = {
        **dict.fromkeys(("id", "session_id", "turn_id", "kind", "status"), str),
        "sequence": int,
        "created_at": float,
        **dict.fromkeys(("data", "resolution"), str),
    }
    required = {"kind", "status", "sequence", "created_at", "data"}
    requests = db.create_table("requests", columns, pk=("session_id", "id"), not_null=required)
    requests.create_index(["status"])


def _events(db: Database) -> None:
    # A rowid table: lines may be megabytes, which a WITHOUT ROWID tree would carry in its inner pages.
    columns = {"session_id": str, "sequence": int, "line": bytes}
    db.create_table("events", columns, pk=("session_id", "sequence"), not_null={"line"})


def _leases(db: Database) -> None:
    columns = {"session_id": str, "holder": str, "fencing": int, "expires_at": float}
    db.create_table("leases", columns, pk="session_id", not_null={"holder", "fencing", "expires_at"})


_SESSION_OVERVIEW = """
SELECT name, id, status,
       json_extract(spec, '$.agent') AS agent,
       json_extract(spec, '$.provider') AS provider,
       json_extract(spec, '$.volume') AS volume,
       json_extract(spec, '$.workspace') AS workspace,
       json_extract(spec, '$.model') AS model,
       json_extract(spec, '$.mode') AS mode,
       title,
       datetime(created_at, 'unixepoch') AS created,
       datetime(updated_at, 'unixepoch') AS updated,
       (SELECT count(*) FROM turns WHERE session_id = sessions.id) AS turns,
       last_sequence AS events,
       (SELECT count(*) FROM requests
         WHERE session_id = sessions.id AND requests.status = 'pending') AS pending_requests,
       last_outcome,
       json_extract(cost, '$.amount') AS cost,
       json_extract(cost, '$.currency') AS currency,
       json_extract(spec, '$.labels') AS labels
  FROM sessions
"""

_TURN_OVERVIEW = """
SELECT sessions.name AS session, turns.session_id, turns.id, turns.status, turns.outcome, turns.stop_reason,
       datetime(turns.created_at, 'unixepoch') AS created,
       datetime(turns.ended_at, 'unixepoch') AS ended,
       turns.ended_at - turns.created_at AS duration_s,
       turns.first_sequence, turns.last_sequence,
       json_extract(turns.result, '$.text') AS text,
       json_extract(turns.result, '$.error.message') AS error
  FROM turns JOIN sessions ON sessions.id = turns.session_id
"""
