"""Sandboxes of their own in SQL: found by name, changed only as they were seen, each change with its event."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from agentctl import ids
from agentctl.errors import AlreadyExists, LeaseLost, SandboxNotFound
from agentctl.model import Lease, Sandbox
from agentctl.store import references
from agentctl.store.rows import columns, decode, encode, encode_value, insert, select

if TYPE_CHECKING:
    from agentctl.store.sql import Database, Statements

Json = dict[str, Any]
KEPT_EVENTS = 1000
"""So many of a sandbox's newest events are kept."""

KEPT_S = 7 * 86400.0
"""The events of a sandbox that was deleted are kept for so long."""

PREFIX = "sbx_"
_MIN_PREFIX = 3


class SandboxRows:
    """The part of ``SqlStore`` for sandboxes of their own."""

    _database: Database
    _LOCK: ClassVar[str]

    def add_sandbox(self, sandbox: Sandbox, event: tuple[str, Json]) -> None:
        from agentctl.store.sql import Taken

        noted = _Noted(sandbox, event)

        def body(db: Statements) -> None:
            db.execute(insert(Sandbox), encode(sandbox))
            noted.write(db)

        try:
            self._database.write(body, durable=True)
        except Taken as e:
            there = self._database.rows(select(Sandbox, "WHERE id = ?"), (sandbox.id,))
            if not there:  # else it is our own, and the answer was lost with the connection
                raise AlreadyExists(f"There is a sandbox named {sandbox.name!r} already.") from e

    def named_sandbox(self, ref: str) -> Sandbox:
        ref = encode_value(ref)
        own = select(Sandbox, "WHERE name IS NOT NULL AND ")
        found = self._database.rows(f"{own} (name = ? OR id = ?) ORDER BY name = ? DESC", (ref,) * 3)
        if found:
            return decode(Sandbox, found[0])
        random_part = ref.removeprefix(PREFIX)
        if len(random_part) >= _MIN_PREFIX:
            prefix = PREFIX + random_part
            found = self._database.rows(f"{own} id >= ? AND id < ? LIMIT 9", (prefix, prefix + "\x7f"))
            if len(found) == 1:
                return decode(Sandbox, found[0])
            if found:
                sandboxes = [decode(Sandbox, row) for row in found]
                raise references.ambiguous(ref, [(s.id, s.name or "") for s in sandboxes], "sandboxes")
        names = self._database.rows("SELECT name FROM sandboxes WHERE name IS NOT NULL")
        raise references.missing_sandbox(ref, (name for (name,) in names))

    def change_sandbox(
        self,
        seen: Sandbox,
        event: tuple[str, Json] | None = None,
        *,
        lease: Lease | None = None,
        **fields: Any,
    ) -> Sandbox:
        unknown = fields.keys() - set(columns(Sandbox)) | fields.keys() & {"id"}
        if unknown:
            raise TypeError(f"not fields of a sandbox that can be set: {sorted(unknown)}")
        changed = replace(seen, **{"updated_at": time.time(), **fields})
        names = [name for name in columns(Sandbox) if name != "id"]
        change = f"UPDATE sandboxes SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?"  # noqa: S608 - ours
        noted = _Noted(changed, event) if event else None

        def body(db: Statements) -> Sandbox:
            sql = f"{select(Sandbox)} WHERE id = ? {self._LOCK}"
            found = db.execute(sql, (seen.id,)).fetchone()
            if found is None:
                raise _gone(seen)
            now = decode(Sandbox, found)
            if lease is not None:
                _refuse_lost(db, seen, lease.fencing)
            elif (now.status, now.fencing) != (seen.status, seen.fencing):
                return now
            db.execute(change, (*(encode_value(getattr(changed, name)) for name in names), seen.id))
            if noted is not None:
                noted.write(db)
            return changed

        return self._database.write(body)

    def remove_sandbox(self, sandbox: Sandbox, event: tuple[str, Json]) -> None:
        noted = _Noted(sandbox, event)

        def body(db: Statements) -> None:
            if db.execute(f"SELECT id FROM sandboxes WHERE id = ? {self._LOCK}", (sandbox.id,)).fetchone() is None:  # noqa: S608 - no input
                return
            noted.write(db)
            db.execute("DELETE FROM sandboxes WHERE id = ?", (sandbox.id,))
            db.execute("DELETE FROM leases WHERE session_id = ?", (sandbox.id,))
            old = "at < ? AND sandbox_id NOT IN (SELECT id FROM sandboxes)"
            db.execute(f"DELETE FROM sandbox_events WHERE {old}", (time.time() - KEPT_S,))  # noqa: S608 - no input

        self._database.write(body, durable=True)

    def sandbox_events(self, sandbox_id: str, *, offset: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        sql = (
            "SELECT sequence, line FROM sandbox_events WHERE sandbox_id = ? AND sequence > ? ORDER BY sequence LIMIT ?"
        )
        rows: list[Any] = self._database.rows(sql, (sandbox_id, offset, limit))
        return [(int(sequence), bytes(line)) for sequence, line in rows]

    def sandbox_of_events(self, ref: str) -> str | None:
        sql = "SELECT sandbox_id FROM sandbox_events WHERE sandbox_id = ? OR name = ? ORDER BY at DESC LIMIT 1"
        found = self._database.rows(sql, (encode_value(ref),) * 2)
        return str(found[0][0]) if found else None


class _Noted:
    """One event about to be written. Made outside of the transaction, which may run twice and notes it once."""

    def __init__(self, sandbox: Sandbox, event: tuple[str, Json]) -> None:
        self._sandbox = sandbox
        self._type, self._data = event
        self._id = ids.new_id("evt")
        self._at = time.time()

    def write(self, db: Statements) -> None:
        """Number it, and drop what is too old to be kept. The sandbox's row is locked by now."""
        sandbox_id = self._sandbox.id
        sql = "SELECT 1 FROM sandbox_events WHERE sandbox_id = ? AND event_id = ?"
        if db.execute(sql, (sandbox_id, self._id)).fetchone() is not None:
            return
        sql = "SELECT max(sequence) FROM sandbox_events WHERE sandbox_id = ?"
        number = (db.execute(sql, (sandbox_id,)).fetchone()[0] or 0) + 1
        db.execute(
            "INSERT INTO sandbox_events (sandbox_id, sequence, event_id, name, at, line) VALUES (?, ?, ?, ?, ?, ?)",
            (sandbox_id, number, self._id, self._sandbox.name, self._at, self._line(number)),
        )
        db.execute(
            "DELETE FROM sandbox_events WHERE sandbox_id = ? AND sequence <= ?", (sandbox_id, number - KEPT_EVENTS)
        )

    def _line(self, number: int) -> bytes:
        from datetime import UTC, datetime

        moment = datetime.fromtimestamp(self._at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = {
            "sequence": number,
            "event_id": self._id,
            "time": moment,
            "sandbox_id": self._sandbox.id,
            "name": self._sandbox.name,
            "type": self._type,
            "data": self._data,
        }
        return json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _refuse_lost(db: Statements, sandbox: Sandbox, fencing: int) -> None:
    found = db.execute("SELECT fencing FROM leases WHERE session_id = ?", (sandbox.id,)).fetchone()
    if found is not None and found[0] > fencing:
        raise LeaseLost(
            f"Another agentctl process has taken sandbox {sandbox.name} over.",
            hint=f"See what it did: agentctl sandboxes events {sandbox.name}",
        )


def _gone(sandbox: Sandbox) -> SandboxNotFound:
    return SandboxNotFound(
        f"The sandbox {sandbox.name} was deleted.", hint="`agentctl sandboxes list` shows those that there are."
    )
