"""What the state database knows by name, read in a hurry: for completion, which has 100 ms for its whole process.

Only the standard library, one read-only connection, no migration, no waiting: where the database is missing, locked,
of another schema or shared (Postgres is on the network), there are no names.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

MOST = 300
"""Names of one kind, the latest first: nobody reads more of them."""

_PATIENCE_S = 0.05

Described = tuple[str, str]


class Names:
    """Names and what describes them, of the database at ``path``; every method returns ``[]`` where it cannot know."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def sessions(self, start: str) -> list[Described]:
        """Names that begin so with agent and title, the last used first; ids where ``start`` looks like one."""
        column = "id" if start.startswith("ses_") else "name"
        sql = f"""
            SELECT {column}, json_extract(spec, '$.agent'), status, coalesce(title, '') FROM sessions
             WHERE substr({column}, 1, ?) = ? ORDER BY max(used_at, updated_at) DESC LIMIT ?
        """  # noqa: S608 - one of two columns
        rows = self._rows(sql, len(start), start, MOST)
        return [(name, f"{agent}, {status}" + (f": {title}" if title else "")) for name, agent, status, title in rows]

    def last_session(self) -> str:
        """The name that ``@last`` stands for, or nothing."""
        rows = self._rows("SELECT name FROM sessions ORDER BY max(used_at, updated_at) DESC LIMIT 1")
        return next((name for (name,) in rows), "")

    def sandboxes(self) -> list[Described]:
        """Sandboxes that have a name of their own."""
        return self._rows("SELECT name, status FROM sandboxes WHERE name IS NOT NULL ORDER BY created_at LIMIT ?", MOST)

    def volumes(self) -> list[Described]:
        return self._rows("SELECT name, provider FROM volumes ORDER BY name LIMIT ?", MOST)

    def workspaces(self) -> list[Described]:
        """Those that sessions name; a workspace that no session uses stands on its volume only."""
        sql = """
            SELECT DISTINCT json_extract(spec, '$.workspace'), json_extract(spec, '$.volume') FROM sessions
             WHERE json_extract(spec, '$.workspace') IS NOT NULL LIMIT ?
        """
        return self._rows(sql, MOST)

    def user_agents(self) -> list[Described]:
        return self._rows("SELECT name, 'made from ' || base FROM user_agents ORDER BY name LIMIT ?", MOST)

    def requests(self, session: str) -> list[Described]:
        """What waits for an answer, of one session or (``""``) of all."""
        sql = """
            SELECT requests.id, sessions.name || ', ' || requests.kind
              FROM requests JOIN sessions ON sessions.id = requests.session_id
             WHERE requests.status = 'pending' AND ? IN ('', sessions.name, sessions.id) LIMIT ?
        """
        return self._rows(sql, session, MOST)

    def turns(self, session: str) -> list[Described]:
        """The turns of a session, the latest first."""
        sql = """
            SELECT turns.id, turns.status FROM turns JOIN sessions ON sessions.id = turns.session_id
             WHERE ? IN (sessions.name, sessions.id) ORDER BY turns.created_at DESC LIMIT ?
        """
        return self._rows(sql, session, MOST)

    def agent_of(self, session: str) -> str:
        """The agent of a session, by its name or id; ``""`` for none."""
        found = self._rows("SELECT json_extract(spec, '$.agent') FROM sessions WHERE ? IN (name, id)", session)
        return next((agent for (agent,) in found), "")

    def base_of(self, agent: str) -> str:
        """The built-in agent behind one that the user made; else ``agent`` itself."""
        found = self._rows("SELECT base FROM user_agents WHERE name = ?", agent)
        return next((base for (base,) in found), agent)

    def _rows(self, sql: str, *parameters: object) -> list[Any]:
        try:
            with closing(sqlite3.connect(_uri(self._path), uri=True, timeout=_PATIENCE_S)) as db:
                return db.execute(sql, parameters).fetchall()
        except sqlite3.Error:
            return []


def _uri(path: Path) -> str:
    """By hand: ``Path.as_uri`` would import 3 ms of libraries."""
    text = str(path.absolute())
    for character in "%?#":
        text = text.replace(character, f"%{ord(character):02x}")
    return f"file:{text}?mode=ro"
