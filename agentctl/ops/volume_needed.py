"""The volume that a session or a sandbox needs: made when it is missing. One that nobody asked for goes again with what
it was made for: with a start that failed, and with the last throw-away session that leaves it empty.

One command at a time of a state directory makes or takes back volumes of a provider. Whoever is to use one is in the
store before it asks for it here, so that it is seen by who would take it back, or finds it gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from agentctl import errors
from agentctl.ops import provenance
from agentctl.paths import state_errors, try_lock

if TYPE_CHECKING:
    from agentctl.model import SessionSpec, Volume
    from agentctl.ops.app import App
    from agentctl.providers.base import Provider

TURN_S = 300.0
_LOOK_S = 0.01


async def ensure(app: App, provider: Provider, spec: SessionSpec) -> Volume:
    """The volume that ``spec`` names. Raise ``Conflict`` when others make and take back volumes for ever."""
    name = spec.volume
    async with _turn(app, provider.name):
        volume = app.store.volume(provider.name, name)
        if volume is None:
            is_new = name not in [there.name for there in await provider.volume_list()]
            made = await provider.volume_create(name, provenance.of_volume(app, spec.origin))
            place = app.place if provider.capabilities.local_volumes else ""
            volume = app.store.add_volume(ours := replace(made, place=place, unasked=is_new))
            if is_new and volume.handle == ours.handle:
                app.unasked_volumes.add((provider.name, name))
            elif is_new:  # another machine was first, and has it under another name there
                with suppress(errors.SandboxError):
                    await provider.volume_remove(ours)
        return volume


async def take_back(app: App, volume: Volume, owner_id: str) -> None:
    """After a start that failed: nothing has been written to it yet, unless somebody else uses it by now."""
    from agentctl.ops import volumes

    if (volume.provider, volume.name) not in app.unasked_volumes:
        return
    async with _turn(app, volume.provider):
        users = volumes.users_of(app, volume)
        ids = {session.id for session in users.sessions} | {sandbox.id for sandbox in users.sandboxes}
        if ids <= {owner_id}:
            with suppress(errors.SandboxError):  # what made the start fail tells more
                await _remove(app, volume)


async def remove_empty(app: App, volume: Volume, session_id: str, *, is_empty: bool) -> None:
    """After a throw-away session, whose row and files are gone; ``is_empty`` is what its provider said of the volume
    then. Of several that end at once, one is the last in the store, and what the others had there is gone by then."""
    from agentctl.ops import volumes

    if not volume.unasked:
        return
    async with _turn(app, volume.provider):
        now = app.store.volume(volume.provider, volume.name)
        if now is None or not now.unasked or volumes.users_of(app, now):
            return
        if is_empty or await app.provider(now.provider).session_remove(now, session_id):
            await _remove(app, now)


async def _remove(app: App, volume: Volume) -> None:
    await app.provider(volume.provider).volume_remove(volume)
    app.unasked_volumes.discard((volume.provider, volume.name))
    app.store.delete_volume(volume.provider, volume.name)


@asynccontextmanager
async def _turn(app: App, provider: str) -> AsyncIterator[None]:
    path = app.paths.ensure().root / f"volumes-{provider}.lock"
    with state_errors(path):
        file = path.open("a")
    with file:
        ends = asyncio.get_running_loop().time() + TURN_S
        while not try_lock(file.fileno()):
            if asyncio.get_running_loop().time() > ends:
                raise errors.Conflict(
                    f"Other commands of this state directory make or remove volumes of {provider} all the time.",
                    hint="Try again in a while.",
                )
            await asyncio.sleep(_LOOK_S)
        yield
