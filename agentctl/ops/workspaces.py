"""Workspaces: named HOMEs on a volume, shared by the sessions that name them.

A workspace is the directory ``workspaces/<name>`` of its volume and nothing else, so whatever made or removed it, the
volume tells. A session makes its own on its first start; until then the session alone tells of it (``planned``).
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from agentctl import errors, ids
from agentctl.ops import volumes
from agentctl.ops.volume_files import files_of

if TYPE_CHECKING:
    from agentctl.model import Volume
    from agentctl.ops.app import App

Json = dict[str, Any]
DIRECTORY = "workspaces"
DEFAULT_VOLUME = "default"


async def create(
    app: App, name: str, *, volume: str = DEFAULT_VOLUME, provider: str | None = None, if_not_exists: bool = False
) -> Json:
    """Make an empty workspace, and the default volume where that is not there yet. Returns it as ``details`` does.

    Raise ``UsageError`` for a bad name, ``AlreadyExists`` unless ``if_not_exists``, and what ``volumes.find`` raises.
    """
    ids.require_name(name, "a workspace")
    on = await _volume_to_create_on(app, volume, provider)
    async with files_of(app, on) as files:
        if not if_not_exists and name in await _names(files):
            raise errors.AlreadyExists(
                f"There is a workspace {name} on the volume {on.name} already.",
                hint=f"See it with: agentctl workspaces get {name}",
            )
        await files.mkdir(f"{DIRECTORY}/{name}")
    return _to_json(on, name, volumes.users_of(app, on), made=True)


async def listing(app: App, *, volume: str | None = None, provider: str | None = None) -> tuple[list[Json], list[Json]]:
    """All workspaces as ``details`` tells them, of one volume or of all within reach; and the volumes (see
    ``volumes.to_json``) that could not be looked into."""
    if volume is not None:
        on = await volumes.find(app, volume, provider)
        return await _of_volume(app, on), []
    found: list[Json] = []
    closed: list[Json] = []
    for about in await volumes.listing(app, provider):
        try:
            if about["status"] == "ready":
                found += await _of_volume(app, await volumes.find(app, about["name"], about["provider"]))
                continue
        except errors.SandboxError:
            about["status"] = "unknown"
        closed.append(about)
    return found, closed


async def details(app: App, name: str, *, volume: str = DEFAULT_VOLUME, provider: str | None = None) -> Json:
    """``{"name", "volume", "provider", "status": "ready"|"planned", "path": on the volume, "sessions", "sandboxes"}``.

    Raise ``WorkspaceNotFound`` with the nearest names, and what ``volumes.find`` raises.
    """
    on = await _volume_of(app, name, volume, provider)
    known = {about["name"]: about for about in await _of_volume(app, on)}
    if name not in known:
        raise _missing(name, on.name, f" of {on.provider}", list(known))
    return known[name]


async def delete(
    app: App, name: str, *, volume: str = DEFAULT_VOLUME, provider: str | None = None, force: bool = False
) -> None:
    """Delete a workspace with all in it.

    Raise ``WorkspaceNotFound``, and ``InUse`` while sessions refer to it. With ``force`` their sandboxes are stopped
    first; the sessions stay, with all that was said, and find an empty HOME at their next message.
    """
    on, users = await require_deletable(app, name, volume=volume, provider=provider, force=force)
    async with AsyncExitStack() as stack:
        await volumes.put_to_sleep(app, users, stack)
        await app.provider(on.provider).workspace_remove(on, name)


async def require_deletable(
    app: App, name: str, *, volume: str, provider: str | None, force: bool
) -> tuple[Volume, volumes.Users]:
    """Its volume, and who will lose by its deletion. Raise ``WorkspaceNotFound``, ``InUse``."""
    on = await _volume_of(app, name, volume, provider)
    users = volumes.users_of(app, on).of_workspace(name)
    made = await names(app, on)
    if name not in made and not users:
        raise _missing(name, on.name, f" of {on.provider}", made)
    volumes.refuse_used(f"The workspace {name}", users, force=force)
    return on, users


async def names(app: App, volume: Volume) -> list[str]:
    """Those that there are on the volume."""
    async with files_of(app, volume) as files:
        return await _names(files)


async def _names(files: Any) -> list[str]:
    try:
        entries = await files.entries(DIRECTORY)
    except errors.PathNotFound:
        return []
    return [e["name"] for e in entries if e["entryType"] == "directory" and ids.is_name(e["name"])]


async def _volume_to_create_on(app: App, name: str, provider: str | None) -> Volume:
    try:
        return await volumes.find(app, name, provider)
    except errors.VolumeNotFound:
        if name != DEFAULT_VOLUME:
            raise
        return await volumes.create(app, name, provider=provider, if_not_exists=True)


async def _of_volume(app: App, volume: Volume) -> list[Json]:
    users = volumes.users_of(app, volume)
    made = set(await names(app, volume))
    return [_to_json(volume, name, users, made=name in made) for name in sorted(made | users.workspaces())]


def _to_json(volume: Volume, name: str, users: volumes.Users, *, made: bool) -> Json:
    return {
        "name": name,
        "volume": volume.name,
        "provider": volume.provider,
        "status": "ready" if made else "planned",
        "path": f"{DIRECTORY}/{name}",
        **users.of_workspace(name).to_json(),
    }


async def _volume_of(app: App, name: str, volume: str, provider: str | None) -> Volume:
    """As ``volumes.find``; but nobody named the default volume, so where that is not there yet the workspace is not."""
    try:
        return await volumes.find(app, volume, provider)
    except errors.VolumeNotFound as e:
        if volume != DEFAULT_VOLUME:
            raise
        raise _missing(name, DEFAULT_VOLUME, "", []) from e


def _missing(name: str, volume: str, of: str, known: list[str]) -> errors.WorkspaceNotFound:
    near = get_close_matches(name, known, n=3)
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    return errors.WorkspaceNotFound(
        f"There is no workspace {name} on the volume {volume}{of}.",
        hint=f"{meant}`agentctl workspaces list` shows all workspaces.",
        details={"workspace": name, "volume": volume, "near": near},
    )
