"""What every store promises. One contract suite (``tests/contract/test_store.py``) runs on SQLite and Postgres.

Every method is one transaction: it happened or it did not, whatever dies. Rows come and go as dataclasses of
``model.py``. A store is not async: a call takes well under a millisecond, or the way to the database and back. What
belongs to a session (turn, request, event, lease) is refused with ``SessionNotFound`` when the session is not there, so
that nothing comes back after ``delete_session``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from agentctl.model import Lease, Request, Sandbox, Session, Turn, UserAgent, Volume


class Store(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(self, t: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None: ...

    def close(self) -> None: ...

    def meta(self, key: str, default: str) -> str:
        """The value of ``key``; where there is none, ``default`` is stored and returned (first writer wins)."""

    def now(self) -> float:
        """The time by the one clock of all who share this store; leases run by it."""

    def faults(self) -> list[str]:
        """What is damaged in the file that the store is, in the database's own words; nothing where it is sound, and
        where a server looks after it. Reads all of it."""

    # sessions
    def add_session(self, session: Session) -> None:
        """Raise ``SessionExists`` when the name (or id) is taken; nothing is written then."""

    def session(self, ref: str) -> Session:
        """Find by exact name, exact id, unique id prefix (with or without ``ses_``, at least 3 characters), or
        ``@last`` (the one used or created last, whoever shares the store; never an ephemeral one). Raise
        ``SessionNotFound`` with the nearest names as hint, and ``UsageError`` with the candidates when a prefix is
        ambiguous."""

    def sessions(
        self, *, limit: int | None = 50, labels: dict[str, str] | None = None, statuses: Sequence[str] = ()
    ) -> list[Session]:
        """Newest activity first."""

    def update_session(self, session_id: str, *, lease: Lease | None = None, **fields: Any) -> Session:
        """Set the given fields of ``Session`` (``spec`` included) and ``updated_at``. Raise ``SessionNotFound``, and
        ``LeaseLost`` when ``lease`` has been taken over since; nothing is changed then."""

    def delete_session(self, session_id: str) -> None:
        """Delete the session with its turns, events, requests and lease. Deleting a missing one succeeds."""

    # sandboxes
    def put_sandbox(self, sandbox: Sandbox) -> None:
        """Insert or replace. A session has at most one sandbox row: an older row of the same session goes. Raise
        ``LeaseLost`` when the session's lease has a higher fencing number; nothing is changed then."""

    def sandbox(self, sandbox_id: str) -> Sandbox | None: ...

    def sandboxes(self) -> list[Sandbox]: ...

    def delete_sandbox(self, sandbox_id: str) -> None: ...

    # sandboxes of their own; an event is ``(type, data)``, numbered from 1 for each sandbox, in the same transaction
    def add_sandbox(self, sandbox: Sandbox, event: tuple[str, dict[str, Any]]) -> None:
        """Raise ``AlreadyExists`` when the name is taken; nothing is written then."""

    def named_sandbox(self, ref: str) -> Sandbox:
        """Find one by exact name, exact id or unique id prefix. Raise ``SandboxNotFound`` with the nearest names, and
        ``UsageError`` with the candidates when a prefix is ambiguous."""

    def change_sandbox(
        self,
        seen: Sandbox,
        event: tuple[str, dict[str, Any]] | None = None,
        *,
        lease: Lease | None = None,
        **fields: Any,
    ) -> Sandbox:
        """Set fields and tell the event, and return the row as it is then. Without the lease only where status and
        fencing are still those of ``seen``; else nothing is changed. Raise ``SandboxNotFound``, ``LeaseLost``."""

    def remove_sandbox(self, sandbox: Sandbox, event: tuple[str, dict[str, Any]]) -> None:
        """Delete the row and its lease; the events stay readable for a week. Removing a missing one succeeds."""

    def sandbox_events(self, sandbox_id: str, *, offset: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Events with a sequence greater than ``offset``, in order, as far as they are kept: the newest thousand."""

    def sandbox_of_events(self, ref: str) -> str | None:
        """The id of the sandbox with this id or name that has events, deleted ones included; the latest of a name."""

    # turns and requests
    def put_turn(self, turn: Turn) -> None:
        """Insert or replace by (session, id)."""

    def turn(self, session_id: str, turn_id: str) -> Turn | None: ...

    def turns(self, session_id: str, *, open_only: bool = False) -> list[Turn]:
        """Oldest first; ``open_only`` those that have not ended, at the cost of those."""

    def sessions_in_line(self) -> set[str]:
        """The ids of the sessions with a turn that is queued."""
        ...

    def put_request(self, request: Request) -> None:
        """Insert or replace by (session, id)."""

    def request(self, session_id: str, request_id: str) -> Request | None: ...

    def requests(self, session_id: str | None = None, *, pending: bool = True) -> list[Request]:
        """Oldest first; of all sessions when none is given."""

    # events: the mirror of the session's log
    def add_events(self, session_id: str, events: Iterable[tuple[int, bytes]]) -> int:
        """Mirror ``(sequence, line)`` pairs; a pair already there is left as it is. Returns the highest sequence
        mirrored so far and keeps it in ``Session.last_sequence``."""

    def events(self, session_id: str, *, offset: int = 0, limit: int | None = None) -> list[tuple[int, bytes]]:
        """Events with a sequence greater than ``offset``, in order."""

    # volumes: a store that several machines share shows each of them its own volumes, and those of no place
    def add_volume(self, volume: Volume) -> Volume:
        """Returns the one that is in the store now: this, unless another machine's or command's was there first."""
        ...

    def volume(self, provider: str, name: str) -> Volume | None: ...

    def volumes(self, *, everywhere: bool = False) -> list[Volume]:
        """By provider and name; ``everywhere`` those of other machines too."""

    def delete_volume(self, provider: str, name: str) -> None: ...

    # agents that the user made
    def add_user_agent(self, agent: UserAgent) -> None:
        """Raise ``AlreadyExists`` when the name is taken; nothing is written then."""

    def put_user_agent(self, agent: UserAgent) -> None:
        """Insert or replace by name."""

    def user_agent(self, name: str) -> UserAgent | None: ...

    def user_agents(self) -> list[UserAgent]:
        """By name."""

    def delete_user_agent(self, name: str) -> None:
        """Deleting a missing one succeeds."""

    # leases
    def acquire_lease(self, session_id: str, *, holder: str, ttl_s: float) -> Lease:
        """Take the lease of a session, or of a sandbox of its own, when it is free, expired, held by ``holder``
        already, or its holder is a dead process of this boot (``holder`` is ``host:boot_id:pid:start_ticks``). Its
        fencing number is one more than ever before for this session. Raise ``SessionBusy`` naming the holder
        otherwise."""

    def renew_lease(self, lease: Lease, *, ttl_s: float) -> Lease:
        """The same lease, for ``ttl_s`` from now. Raise ``LeaseLost`` when it has been taken over or let go."""

    def release_lease(self, lease: Lease) -> None:
        """Let go; a lease taken over by another is left alone."""
