"""The schema ``agentctl`` of a shared database, as append-only numbered migrations. One that shipped is never edited.

It is that of ``migrations.py``: a table per dataclass, a column per field, and the same views for users. Ids and names
compare by their bytes, as in SQLite. ``rowid`` is the order of insertion, which SQLite has by itself.
"""

from __future__ import annotations

from typing import Any

import psycopg

_LOCK = 0x61676374  # "agct"
_INITIAL = r"""
-- JSON of ours may hold an escaped NUL, which Postgres has no text for.
CREATE FUNCTION as_json(given text) RETURNS json LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT replace(given, '\u0000', '\ufffd')::json $$;

CREATE TABLE meta (
    key text COLLATE "C" PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE sessions (
    id text COLLATE "C" PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    spec text NOT NULL,
    status text NOT NULL,
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL,
    title text,
    native_session_id text,
    sandbox_id text,
    last_sequence bigint NOT NULL,
    usage text,
    cost text,
    last_turn_id text,
    last_outcome text,
    ephemeral integer NOT NULL,
    place text COLLATE "C" NOT NULL,
    rowid bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX sessions_order ON sessions (updated_at DESC, created_at DESC, rowid DESC);

CREATE TABLE sandboxes (
    id text COLLATE "C" PRIMARY KEY,
    session_id text COLLATE "C",
    provider text NOT NULL,
    handle text NOT NULL,
    labels text NOT NULL,
    created_at double precision NOT NULL,
    fencing bigint NOT NULL
);
CREATE UNIQUE INDEX sandboxes_session ON sandboxes (session_id);

CREATE TABLE volumes (
    name text COLLATE "C",
    provider text COLLATE "C",
    handle text NOT NULL,
    created_at double precision NOT NULL,
    place text COLLATE "C",
    PRIMARY KEY (provider, name, place)
);

CREATE TABLE turns (
    id text COLLATE "C",
    session_id text COLLATE "C",
    status text NOT NULL,
    created_at double precision NOT NULL,
    first_sequence bigint,
    last_sequence bigint,
    outcome text,
    stop_reason text,
    ended_at double precision,
    result text,
    rowid bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (session_id, id)
);
CREATE INDEX turns_of_session ON turns (session_id, status);

CREATE TABLE requests (
    id text COLLATE "C",
    session_id text COLLATE "C",
    turn_id text,
    kind text NOT NULL,
    status text NOT NULL,
    sequence bigint NOT NULL,
    created_at double precision NOT NULL,
    data text NOT NULL,
    resolution text,
    rowid bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (session_id, id)
);
CREATE INDEX requests_status ON requests (status);
CREATE INDEX requests_of_session ON requests (session_id, status);
CREATE INDEX turns_status ON turns (session_id, status);

CREATE TABLE events (
    session_id text COLLATE "C",
    sequence bigint,
    line bytea NOT NULL,
    PRIMARY KEY (session_id, sequence)
);

CREATE TABLE leases (
    session_id text COLLATE "C" PRIMARY KEY,
    holder text NOT NULL,
    fencing bigint NOT NULL,
    expires_at double precision NOT NULL
);
"""
_OVERVIEWS = """
CREATE FUNCTION as_utc(seconds double precision) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT to_char(to_timestamp(seconds) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') $$;

CREATE VIEW session_overview AS
SELECT name, id, status,
       as_json(spec) ->> 'agent' AS agent,
       as_json(spec) ->> 'provider' AS provider,
       as_json(spec) ->> 'volume' AS volume,
       as_json(spec) ->> 'workspace' AS workspace,
       as_json(spec) ->> 'model' AS model,
       as_json(spec) ->> 'mode' AS mode,
       title,
       as_utc(created_at) AS created,
       as_utc(updated_at) AS updated,
       (SELECT count(*) FROM turns WHERE session_id = sessions.id) AS turns,
       last_sequence AS events,
       (SELECT count(*) FROM requests
         WHERE session_id = sessions.id AND requests.status = 'pending') AS pending_requests,
       last_outcome,
       (as_json(cost) ->> 'amount')::double precision AS cost,
       as_json(cost) ->> 'currency' AS currency,
       as_json(spec) -> 'labels' AS labels
  FROM sessions;

CREATE VIEW turn_overview AS
SELECT sessions.name AS session, turns.session_id, turns.id, turns.status, turns.outcome, turns.stop_reason,
       as_utc(turns.created_at) AS created,
       as_utc(turns.ended_at) AS ended,
       turns.ended_at - turns.created_at AS duration_s,
       turns.first_sequence, turns.last_sequence,
       as_json(turns.result) ->> 'text' AS text,
       as_json(turns.result) -> 'error' ->> 'message' AS error
  FROM turns JOIN sessions ON sessions.id = turns.session_id;
"""

_USER_AGENTS = """
CREATE TABLE user_agents (
    name text COLLATE "C" PRIMARY KEY,
    base text NOT NULL,
    settings text NOT NULL,
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL
);
"""

_OWN_SANDBOXES = """
ALTER TABLE sandboxes
    ADD COLUMN name text COLLATE "C" UNIQUE,
    ADD COLUMN spec text,
    ADD COLUMN ttl_s double precision,
    ADD COLUMN error text,
    ADD COLUMN status text NOT NULL DEFAULT 'running',
    ADD COLUMN updated_at double precision NOT NULL DEFAULT 0,
    ADD COLUMN place text COLLATE "C" NOT NULL DEFAULT '';
CREATE TABLE sandbox_events (
    sandbox_id text COLLATE "C",
    sequence bigint,
    event_id text NOT NULL,
    name text COLLATE "C",
    at double precision NOT NULL,
    line bytea NOT NULL,
    PRIMARY KEY (sandbox_id, sequence)
);
CREATE INDEX sandbox_events_name ON sandbox_events (name);
"""

_USED_AT = """
ALTER TABLE sessions ADD COLUMN used_at double precision NOT NULL DEFAULT 0;
UPDATE sessions SET used_at = updated_at;
"""

_UNASKED_VOLUMES = "ALTER TABLE volumes ADD COLUMN unasked integer NOT NULL DEFAULT 0"

MIGRATIONS = (_INITIAL, _OVERVIEWS, _USER_AGENTS, _OWN_SANDBOXES, _USED_AT, _UNASKED_VOLUMES)
LATEST = len(MIGRATIONS)


def version(db: psycopg.Connection[Any]) -> int:
    """How many migrations the database has; 0 for one that was never used."""
    if not _exists(db, "pg_tables WHERE schemaname = 'agentctl' AND tablename = 'schema_version'"):
        return 0
    [(found,)] = db.execute("SELECT version FROM agentctl.schema_version").fetchall()
    return int(found)


def apply(db: psycopg.Connection[Any]) -> None:
    """Apply what is pending, all or nothing; of several processes that do it at once, one does it."""
    with db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        done = version(db)
        if done == 0:
            _begin(db)
        for migration in MIGRATIONS[done:]:
            db.execute(migration.encode())
        db.execute("UPDATE agentctl.schema_version SET version = %s", (max(done, LATEST),))


def _begin(db: psycopg.Connection[Any]) -> None:
    if not _exists(db, "pg_namespace WHERE nspname = 'agentctl'"):
        db.execute("CREATE SCHEMA agentctl")  # else an administrator made it, for a user who may not
    db.execute("CREATE TABLE agentctl.schema_version (version integer NOT NULL)")
    db.execute("INSERT INTO agentctl.schema_version (version) VALUES (0)")


def _exists(db: psycopg.Connection[Any], rows: str) -> bool:
    # Asked of the catalogue's rows: to_regclass() answers from a cache, which another's commit does not reach in time.
    [(there,)] = db.execute(f"SELECT EXISTS (SELECT FROM pg_catalog.{rows})".encode()).fetchall()  # noqa: S608 - ours
    return bool(there)
