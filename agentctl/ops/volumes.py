"""Volumes: made, found, listed, deleted. Who uses one is told by the sessions' own specs.

The backend says what there is; the store adds what it cannot know: which machine a volume of this host's kind lies on.
A volume that somebody removed behind our back is ``missing``, and can be forgotten with ``delete``.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from agentctl import errors, ids
from agentctl.frozen import frozen
from agentctl.ops import provenance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentctl.model import Sandbox, Session, SessionSpec, Volume
    from agentctl.ops.app import App
    from agentctl.providers.base import Provider

Json = dict[str, Any]


@frozen
class Users:
    """Those that have their HOME and their log on a volume: sessions, and sandboxes of their own."""

    sessions: tuple[Session, ...]
    sandboxes: tuple[Sandbox, ...]

    def __bool__(self) -> bool:
        return bool(self.sessions or self.sandboxes)

    def of_workspace(self, name: str) -> Users:
        """Those of them that have this workspace as their HOME."""
        return Users(
            sessions=tuple(s for s in self.sessions if s.spec.workspace == name),
            sandboxes=tuple(s for s in self.sandboxes if s.spec and s.spec.workspace == name),
        )

    def workspaces(self) -> set[str]:
        """Those that they name, made or not."""
        specs = [*(s.spec for s in self.sessions), *(s.spec for s in self.sandboxes if s.spec)]
        return {spec.workspace for spec in specs if spec.workspace is not None}

    def to_json(self) -> Json:
        sessions_ = [{"id": s.id, "name": s.name, "workspace": s.spec.workspace} for s in self.sessions]
        sandboxes = [{"id": s.id, "name": s.name, "workspace": s.spec and s.spec.workspace} for s in self.sandboxes]
        return {"sessions": sessions_, "sandboxes": sandboxes}


async def create(app: App, name: str, *, provider: str | None = None, if_not_exists: bool = False) -> Volume:
    """Make a volume. Raise ``UsageError`` for a bad name and ``AlreadyExists``, unless ``if_not_exists``."""
    ids.require_name(name, "a volume")
    backend = app.provider(provider or app.config.provider)
    known = app.store.volume(backend.name, name)
    if not if_not_exists and (known or name in await _on_backend(app, backend)):
        raise errors.AlreadyExists(
            f"There is a volume {name} of {backend.name} already.", hint=f"See it with: agentctl volumes get {name}"
        )
    if known:
        return known
    volume = _placed(app, backend, await backend.volume_create(name, provenance.of_volume(app)))
    return app.store.add_volume(volume)


async def find(app: App, name: str, provider: str | None = None) -> Volume:
    """The volume of that name within this machine's reach; where several providers have one, that of the configured.

    Raise ``VolumeElsewhere`` naming the machine, ``VolumeNotFound`` with the nearest names, and ``UsageError`` when the
    name alone does not tell which one is meant.
    """
    known = [volume for volume in app.store.volumes(everywhere=True) if provider in (None, volume.provider)]
    here = {volume.provider: volume for volume in known if volume.name == name and not is_elsewhere(app, volume)}
    default = provider or app.config.provider
    if default not in here and (len(here) != 1 or provider):
        found = await _on_backend(app, app.provider(default))
        here |= {default: found[name]} if name in found else {}
    if default in here:
        return here[default]
    if len(here) > 1:
        hint = f"Say which one: --provider {' or --provider '.join(sorted(here))}"
        raise errors.UsageError(f"Several providers have a volume {name}.", hint=hint)
    for volume in here.values():
        return volume
    for volume in known:
        if volume.name == name:
            raise _elsewhere(app, volume)
    raise _missing(name, (volume.name for volume in known))


def is_elsewhere(app: App, volume: Volume) -> bool:
    """Whether it lies on another machine that shares the store."""
    return volume.place not in ("", app.place)


async def listing(app: App, provider: str | None = None) -> list[Json]:
    """Every volume as JSON (see ``to_json``), by provider and name; those of other machines too, as ``elsewhere``.

    A provider that does not answer makes its volumes ``unknown``, unless it is the one that was asked for.
    """
    recorded = [volume for volume in app.store.volumes(everywhere=True) if provider in (None, volume.provider)]
    names = {provider} if provider else {volume.provider for volume in recorded} | {app.config.provider}
    found: dict[str, dict[str, Volume] | None] = {}
    for name in names:
        try:
            found[name] = await _on_backend(app, app.provider(name))
        except (errors.SandboxError, errors.ProviderNotFound):
            if provider:
                raise
            found[name] = None
    rows = {(v.provider, v.name, v.place): v for of in found.values() for v in (of or {}).values()}
    rows |= {(v.provider, v.name, v.place): v for v in recorded}
    all_sessions = app.store.sessions(limit=None)
    return [
        to_json(app, volume, _status(app, volume, found.get(volume.provider)), _users(app, volume, all_sessions))
        for _, volume in sorted(rows.items())
    ]


async def details(app: App, name: str, provider: str | None = None) -> Json:
    """One volume as JSON, with its ``workspaces``: null when nobody could look into it. Raise what ``find`` raises."""
    volume = await find(app, name, provider)
    users = users_of(app, volume)
    status = _status(app, volume, await _on_backend(app, app.provider(volume.provider)))
    return {**to_json(app, volume, status, users), "workspaces": await _workspaces(app, volume, status, users)}


async def _workspaces(app: App, volume: Volume, status: str, users: Users) -> list[str] | None:
    from agentctl.ops import workspaces

    try:
        made = await workspaces.names(app, volume) if status == "ready" else []
    except errors.SandboxError:
        return None
    return sorted({*made, *users.workspaces()})


def to_json(app: App, volume: Volume, status: str, users: Users) -> Json:
    """``status`` is ``ready``, ``missing`` (removed behind our back), ``elsewhere`` or ``unknown``; ``machine`` is told
    only of one that is elsewhere, ``path`` only of one that lies on this host."""
    path = app.provider(volume.provider).volume_path(volume, ".") if status == "ready" else None
    return {
        "name": volume.name,
        "provider": volume.provider,
        "status": status,
        "machine": app.machine_of(volume.place) if status == "elsewhere" else None,
        "path": str(path) if path is not None else None,
        "created_at": volume.created_at,
        **users.to_json(),
    }


async def delete(app: App, volume: Volume, *, force: bool = False) -> None:
    """Delete the volume with all in it. One that is gone already is forgotten.

    Raise ``InUse`` while sessions refer to it. With ``force`` their sandboxes are stopped first, turns that run there
    are interrupted; the sessions stay, with all that was said, but their agents' HOME and memory are gone: the next
    message makes a new, empty volume, and tells that the context is lost. Sandboxes of their own are never forced.
    """
    users = require_deletable(app, volume, force=force)
    async with AsyncExitStack() as stack:
        await put_to_sleep(app, users, stack)
        await app.provider(volume.provider).volume_remove(volume)
        app.store.delete_volume(volume.provider, volume.name)


def require_deletable(app: App, volume: Volume, *, force: bool) -> Users:
    """Who will lose by its deletion. Raise ``InUse``."""
    users = users_of(app, volume)
    refuse_used(f"The volume {volume.name}", users, force=force)
    return users


async def put_to_sleep(app: App, users: Users, stack: AsyncExitStack) -> None:
    """Stop the sessions' sandboxes; none comes up again before ``stack`` is closed."""
    from agentctl.ops import session_end

    for session in sorted(users.sessions, key=lambda s: s.id):  # in one order, so that two commands cannot block
        with suppress(errors.SessionNotFound):  # somebody deleted it meanwhile
            await stack.enter_async_context(session_end.asleep(app, session.id))


def users_of(app: App, volume: Volume) -> Users:
    """Who has its HOME on it."""
    return _users(app, volume, app.store.sessions(limit=None))


FORCE_HINT = (
    "Delete what uses it first; or --force stops it and takes its HOME and its agent's memory away, but keeps what was"
    " said."
)


def refuse_used(what: str, users: Users, *, force: bool, hint: str = FORCE_HINT) -> None:
    """Raise ``InUse`` naming who uses it; sandboxes of their own cannot be forced."""
    names = [session.name for session in users.sessions]
    own = [sandbox.name or sandbox.id for sandbox in users.sandboxes]
    about = {"sessions": names, "sandboxes": own}
    if own:
        first = f"Delete it first: agentctl sandboxes delete {own[0]}"
        raise errors.InUse(f"{what} is used by the {_counted('sandbox', 'es', own)}.", hint=first, details=about)
    if names and not force:
        raise errors.InUse(
            f"{what} is used by the {_counted('session', 's', names)}.",
            hint=hint,
            details=about,
        )


def _counted(word: str, plural: str, names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{word}{plural if len(names) > 1 else ''} {shown}"


def _users(app: App, volume: Volume, all_sessions: list[Session]) -> Users:
    def is_on(spec: SessionSpec | None, place: str) -> bool:
        return spec is not None and (spec.provider, spec.volume, place) == (volume.provider, volume.name, volume.place)

    own = [sandbox for sandbox in app.store.sandboxes() if sandbox.name is not None]
    return Users(
        sessions=tuple(session for session in all_sessions if is_on(session.spec, session.place)),
        sandboxes=tuple(sandbox for sandbox in own if is_on(sandbox.spec, sandbox.place)),
    )


async def _on_backend(app: App, provider: Provider) -> dict[str, Volume]:
    return {volume.name: _placed(app, provider, volume) for volume in await provider.volume_list()}


def _placed(app: App, provider: Provider, volume: Volume) -> Volume:
    return replace(volume, place=app.place if provider.capabilities.local_volumes else "")


def _status(app: App, volume: Volume, on_backend: dict[str, Volume] | None) -> str:
    if is_elsewhere(app, volume):
        return "elsewhere"
    if on_backend is None:
        return "unknown"
    return "ready" if volume.name in on_backend else "missing"


def _elsewhere(app: App, volume: Volume) -> errors.VolumeElsewhere:
    machine = app.machine_of(volume.place)
    return errors.VolumeElsewhere(
        f"The volume {volume.name} of {volume.provider} lies on {machine}, which this machine does not reach.",
        hint="Run the command there.",
        details={"volume": volume.name, "machine": machine, "place": volume.place},
    )


def _missing(name: str, names: Iterable[str]) -> errors.VolumeNotFound:
    near = get_close_matches(name, list(names), n=3)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    return errors.VolumeNotFound(
        f"There is no volume {name}.",
        hint=f"{meant}`agentctl volumes list` shows all volumes.",
        details={"volume": name, "near": near},
    )
