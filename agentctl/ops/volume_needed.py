"""The volume that a session or a sandbox needs: made when it is missing. One that nobody asked for goes again with what
it was made for: with a start that failed, and with a throw-away session that leaves it empty."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from agentctl import errors

if TYPE_CHECKING:
    from agentctl.model import Volume
    from agentctl.ops.app import App
    from agentctl.providers.base import Provider


async def ensure(app: App, provider: Provider, name: str) -> Volume:
    volume = app.store.volume(provider.name, name)
    if volume is None:
        is_new = name not in [there.name for there in await provider.volume_list()]
        created = await provider.volume_create(name)
        volume = replace(created, place=app.place if provider.capabilities.local_volumes else "")
        app.store.put_volume(volume)
        if is_new:
            app.unasked_volumes.add((provider.name, name))
    return volume


async def take_back(app: App, volume: Volume, owner_id: str) -> None:
    """After a start that failed: nothing has been written to it yet, unless somebody else uses it by now."""
    from agentctl.ops import volumes

    users = volumes.users_of(app, volume)
    ids = {session.id for session in users.sessions} | {sandbox.id for sandbox in users.sandboxes}
    if _is_unasked(app, volume) and ids <= {owner_id}:
        with suppress(errors.SandboxError):  # what made the start fail tells more
            await app.provider(volume.provider).volume_remove(volume)
            _forget(app, volume)


async def remove_empty(app: App, volume: Volume) -> None:
    """After a throw-away session, which has left nothing in it, unless somebody uses it by now."""
    from agentctl.ops import volumes

    if _is_unasked(app, volume) and not volumes.users_of(app, volume):
        await app.provider(volume.provider).volume_remove(volume)
        _forget(app, volume)


def _is_unasked(app: App, volume: Volume) -> bool:
    return (volume.provider, volume.name) in app.unasked_volumes


def _forget(app: App, volume: Volume) -> None:
    app.unasked_volumes.discard((volume.provider, volume.name))
    app.store.delete_volume(volume.provider, volume.name)
