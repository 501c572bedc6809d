"""What is left of sandboxes that no session wants: found by origin, judged, and deleted when it was asked for.

A thing is an orphan when the store knows no session or sandbox of its own that it belongs to, and when it is old: so
long ago it was made, and so long ago it showed life (its supervisor's word, or the age of its log). What cannot be told
is left alone and said.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from agentctl import errors
from agentctl.frozen import frozen
from agentctl.model import Sandbox, Session
from agentctl.ops import reach, sandbox_up
from agentctl.ops.elsewhere import is_elsewhere
from agentctl.ops.own import as_session
from agentctl.paths import try_lock

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.providers.leftover import Leftover, Sweeping
    from agentctl.store.base import Store

Json = dict[str, Any]
OLDER_THAN_S = 24 * 3600.0
FAILED_OLDER_THAN_S = 2 * 3600.0
ASK_S = 2.0
LOOK_TIMEOUT_S = 120.0

Action = Literal["would delete", "deleted", "skipped", "failed", "kept"]


@frozen
class Orphan:
    """One that was found and what became of it; ``reason`` says why it was skipped or failed. ``kept`` is a volume,
    which goes only when volumes are asked for. ``size_bytes`` is what it takes on the disk, None where nobody tells."""

    provider: str
    kind: str
    id: str
    action: Action
    reason: str = ""
    session_id: str | None = None
    sandbox_id: str | None = None
    owner: str | None = None
    status: str = "stopped"
    created_at: float | None = None
    active_at: float | None = None
    age_s: float | None = None
    size_bytes: int | None = None


@frozen
class Sweep:
    """What to look for. ``providers`` empty: all that this state directory uses or that can be used now."""

    origin: str
    providers: tuple[str, ...] = ()
    older_than_s: float = OLDER_THAN_S
    volumes: bool = False
    delete: bool = False

    @property
    def failed_older_than_s(self) -> float:
        return min(self.older_than_s, FAILED_OLDER_THAN_S)


async def sweep(app: App, wanted: Sweep, found: Callable[[Orphan], None]) -> list[Orphan]:
    """Tell each orphan as soon as it is dealt with; at most one sweep of a state directory at a time. Raise
    ``Conflict`` while another runs, ``UsageError`` for an origin that is none and while the store that the state
    directory was used with is not named, ``ProviderUnavailable`` for a provider that was named and cannot be used."""
    if not wanted.origin or any(c in wanted.origin for c in "*?%"):
        raise errors.UsageError(
            f"{wanted.origin!r} is no origin.", hint="Name one exactly; `agentctl config` or AGENTCTL_ORIGIN sets it."
        )
    _require_its_store(app)
    told: list[Orphan] = []
    with _alone(app):
        for stale in await _stale_sessions(app, wanted):
            told.append(stale)
            found(stale)
        for provider in wanted.providers or await _usable(app):
            async for orphan in _swept(app, provider, wanted):
                told.append(orphan)
                found(orphan)
    return told


def _require_its_store(app: App) -> None:
    """What this state directory's sessions want is in the store that they are in, and perhaps in no other."""
    from agentctl.store.place import place_file

    marker = place_file(app.paths)
    if app.config.database_url is None and marker.exists():
        raise errors.UsageError(
            "This state directory was used with a shared database, and none is named: it may want all that would be "
            "deleted.",
            hint=f"Set AGENTCTL_DATABASE_URL. If that database is gone for good, remove {marker}.",
        )


@contextmanager
def _alone(app: App) -> Iterator[None]:
    path = app.paths.ensure().root / "cleanup.lock"
    with path.open("a") as file:
        if not try_lock(file.fileno()):
            raise errors.Conflict(
                "Another cleanup of this state directory is running.", hint="Let it end; nothing was done here."
            )
        yield


async def _usable(app: App) -> list[str]:
    """Those that the store has something of, which must answer; and of the others those that do."""
    from agentctl.providers.lookup import SWEEPS

    used = {sandbox.provider for sandbox in app.store.sandboxes()}
    used |= {volume.provider for volume in app.store.volumes(everywhere=True)}
    used |= {session.spec.provider for session in app.store.sessions(limit=None)}
    found = []
    for name in SWEEPS:
        with suppress(*(() if name in used else (errors.AgentctlError,))):
            await app.provider(name).check()
            found.append(name)
    return found


async def _swept(app: App, provider: str, wanted: Sweep) -> AsyncIterator[Orphan]:
    from agentctl.providers.lookup import open_sweep

    await app.provider(provider).check()
    sweeper = open_sweep(provider, app.paths)
    async with asyncio.timeout(LOOK_TIMEOUT_S):
        candidates = [one async for one in sweeper.leftovers(wanted.origin)]
    known = _Known(app)
    for leftover in candidates:
        if not known.wants(provider, leftover):
            yield await _dealt_with(app, provider, sweeper, leftover, wanted)


async def _dealt_with(app: App, provider: str, sweeper: Sweeping, leftover: Leftover, wanted: Sweep) -> Orphan:
    leftover = await _asked(app, provider, leftover)
    orphan = _orphan(provider, leftover)
    if reason := _too_young(leftover, wanted):
        return replace(orphan, action="skipped", reason=reason)
    with suppress(errors.AgentctlError):
        orphan = replace(orphan, size_bytes=await sweeper.size_bytes(leftover))
    if leftover.kind == "volume" and not wanted.volumes:
        return replace(orphan, action="kept", reason="volumes go with --volumes only")
    if not wanted.delete:
        return orphan
    try:
        now = await sweeper.leftover_now(leftover)
        if now is not None:
            now = await _asked(app, provider, now)
            if _Known(app).wants(provider, now) or _too_young(now, wanted):
                return replace(orphan, action="skipped", reason="it is in use again")
            await sweeper.remove_leftover(now)
    except errors.AgentctlError as e:
        return replace(orphan, action="failed", reason=e.message)
    return replace(orphan, action="deleted")


class _Known:
    """What the store wants, and the state directory's own when the store is another, read when it is made."""

    def __init__(self, app: App) -> None:
        self._sandboxes: set[str] = set()
        self._volumes: list[tuple[str, Json]] = []
        self._read(app.store)
        if app.config.database_url is not None and app.paths.database.exists():
            from agentctl.store.lookup import open_store

            with open_store(app.paths) as local:
                self._read(local)

    def _read(self, store: Store) -> None:
        self._sandboxes |= {sandbox.id for sandbox in store.sandboxes()}
        self._sandboxes |= {session.sandbox_id for session in store.sessions(limit=None) if session.sandbox_id}
        self._volumes += [(volume.provider, volume.handle) for volume in store.volumes(everywhere=True)]

    def wants(self, provider: str, leftover: Leftover) -> bool:
        """A volume by its handle, all else by the sandbox that it belongs to."""
        if leftover.kind == "volume":
            return any(name == provider and leftover.handle.items() >= has.items() for name, has in self._volumes)
        return leftover.sandbox_id in self._sandboxes


async def _asked(app: App, provider: str, leftover: Leftover) -> Leftover:
    """With the word of its supervisor about its last activity, where that one answers us."""
    if leftover.kind != "sandbox" or leftover.status != "running":
        return leftover
    with suppress(errors.AgentctlError):
        async with await reach.client_to(app.provider(provider), leftover.handle) as client:
            health = await client.health(timeout_s=ASK_S)
        return replace(leftover, active_at=time.time() - health["idle_s"])
    return leftover


def _too_young(leftover: Leftover, wanted: Sweep) -> str:
    """Why it is left alone; ``""`` when it is not."""
    if leftover.created_at is None:
        return "its age is unknown"
    may_be_used = leftover.status in ("running", "paused") or leftover.kind == "volume"
    if may_be_used and leftover.active_at is None and not leftover.own:
        return "whether it is in use cannot be told"
    now = time.time()
    limit_s = wanted.failed_older_than_s if leftover.status == "failed" else wanted.older_than_s
    if now - leftover.created_at < limit_s:
        return "it is younger than that"
    if leftover.active_at is not None and now - leftover.active_at < limit_s:
        return "it was active since"
    return ""


def _orphan(provider: str, leftover: Leftover) -> Orphan:
    created_at = leftover.created_at
    return Orphan(
        provider=provider,
        kind=leftover.kind,
        id=leftover.id,
        action="would delete",
        session_id=leftover.labels.get("session"),
        sandbox_id=leftover.sandbox_id,
        owner=leftover.labels.get("owner"),
        status=leftover.status,
        created_at=created_at,
        active_at=leftover.active_at,
        age_s=None if created_at is None else round(time.time() - created_at),
    )


async def _stale_sessions(app: App, wanted: Sweep) -> list[Orphan]:
    """Sessions of ``run`` whose command died before it could throw them away, and sandboxes past their time."""
    from agentctl.ops import sandboxes, session_end

    dealt: list[Orphan] = []
    for session in app.store.sessions(limit=None):
        if session.ephemeral and _asked_for(wanted, session) and not await _is_wanted(app, session, wanted):
            dealt.append(await _deleted(wanted, _of_session(session), session_end.delete(app, session.id)))
    for sandbox in app.store.sandboxes():
        if sandbox.name is not None and sandbox_up.is_expired(sandbox) and not is_elsewhere(app, as_session(sandbox)):
            delete = sandboxes.delete(app, sandbox.id, force=True, reason="expired")
            dealt.append(await _deleted(wanted, _of_own(sandbox), delete))
    return dealt


async def _is_wanted(app: App, session: Session, wanted: Sweep) -> bool:
    """Whether something happened of late, as the store tells or its supervisor does; elsewhere nobody can tell."""
    if is_elsewhere(app, session) or time.time() - session.updated_at < wanted.older_than_s:
        return True
    sandbox = app.store.sandbox(session.sandbox_id) if session.sandbox_id else None
    if sandbox is None:
        return False
    with suppress(errors.AgentctlError):
        async with await reach.client_to(app.provider(sandbox.provider), sandbox.handle) as client:
            return float((await client.health(timeout_s=ASK_S))["idle_s"]) < wanted.older_than_s
    return False


def _asked_for(wanted: Sweep, session: Session) -> bool:
    spec = session.spec
    return spec.origin == wanted.origin and (not wanted.providers or spec.provider in wanted.providers)


def _of_session(session: Session) -> Orphan:
    return Orphan(
        provider=session.spec.provider,
        kind="session",
        id=session.name,
        action="would delete",
        session_id=session.id,
        sandbox_id=session.sandbox_id,
        status=session.status,
        created_at=session.created_at,
        age_s=round(time.time() - session.updated_at),
    )


def _of_own(sandbox: Sandbox) -> Orphan:
    return Orphan(
        provider=sandbox.provider,
        kind="sandbox",
        id=sandbox.name or sandbox.id,
        action="would delete",
        sandbox_id=sandbox.id,
        status=sandbox.status,
        created_at=sandbox.created_at,
        age_s=round(time.time() - sandbox.created_at),
    )


async def _deleted(wanted: Sweep, orphan: Orphan, delete: Coroutine[Any, Any, object]) -> Orphan:
    if not wanted.delete:
        delete.close()
        return orphan
    try:
        await delete
    except errors.NotFound:
        pass
    except errors.AgentctlError as e:
        return replace(orphan, action="failed", reason=e.message)
    return replace(orphan, action="deleted")


def freed(orphans: Sequence[Orphan]) -> tuple[int, bool]:
    """The bytes that are free now, or would be; and whether that is all: not everything tells its size."""
    gone = [orphan.size_bytes for orphan in orphans if orphan.action in ("would delete", "deleted")]
    return sum(size or 0 for size in gone), None not in gone


def counted(orphans: Sequence[Orphan]) -> dict[str, int]:
    """How many of each action."""
    actions: tuple[Action, ...] = ("would delete", "deleted", "kept", "skipped", "failed")
    return {action: sum(orphan.action == action for orphan in orphans) for action in actions}
