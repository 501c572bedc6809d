"""What sandboxes left at Modal: sandboxes, helpers that work on volumes, and this state directory's volumes.

A sandbox that has ended costs nothing and is not there any more; a volume bears no labels, so that of others nothing
can be told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentctl.errors import NotFound, SandboxError
from agentctl.providers.leftover import NEWEST, Leftover, of_volume
from agentctl.providers.modal import tags
from agentctl.providers.modal.create import detached, end, forget
from agentctl.providers.modal.place import LAYOUT, LOG
from agentctl.providers.modal.provider import ModalProvider

if TYPE_CHECKING:
    import modal


class ModalSweep(ModalProvider):
    """Implements ``Sweeping``. A handle is ``{"modal": Modal's id}``, of a volume the volume's own."""

    async def leftovers(self, origin: str) -> AsyncIterator[Leftover]:
        found = {one.object_id: (one, marks) for one, marks in await self._list(tags.label_tags({"origin": origin}))}
        for one, marks in await self._list({tags.INSTALLATION: self.installation}):
            if "origin" not in tags.users_labels(marks):
                found[one.object_id] = one, marks
        for one, marks in found.values():
            yield await self._leftover(one, marks)
        for volume in await self.volume_list():
            yield of_volume(volume)

    async def _leftover(self, sandbox: modal.Sandbox, marks: dict[str, str]) -> Leftover:
        is_helper = tags.SANDBOX not in marks
        found = Leftover(
            kind="helper" if is_helper else "sandbox",
            id=sandbox.object_id,
            handle={"modal": sandbox.object_id},
            labels=tags.users_labels(marks),
            sandbox_id=marks.get(tags.SANDBOX),
            created_at=tags.time_of(marks, tags.CREATED_AT),
            status="running",
            own=marks.get(tags.INSTALLATION) == self.installation,
        )
        if is_helper:
            return found
        with suppress(SandboxError, NotFound):
            found = replace(found, handle=(await self._as_found(sandbox, marks)).handle)
        return found if found.own else replace(found, active_at=await self._active_at(sandbox))

    async def _active_at(self, sandbox: modal.Sandbox) -> float | None:
        """Nobody here has its token: when it last wrote to its log tells whether it lives."""

        async def read(_: Any) -> float:
            process = await sandbox.exec.aio(LAYOUT.python, "-IS", "-c", NEWEST, LOG)
            said = await process.stdout.read.aio()
            await detached(sandbox)
            return float(said)

        with suppress(SandboxError, NotFound, ValueError):
            return await self.sdk.call("look at its log", read)
        return None

    async def size_bytes(self, leftover: Leftover) -> None:
        """Nothing here tells."""

    async def leftover_now(self, leftover: Leftover) -> Leftover | None:
        if leftover.kind == "volume":
            return leftover if leftover.id in [volume.name for volume in await self.volume_list()] else None
        with suppress(NotFound):
            sandbox = await self.sandbox(leftover.handle["modal"])
            if sandbox.returncode is None:
                marks = await self.sdk.call("look at the sandbox's tags", lambda _: sandbox.get_tags.aio())
                return await self._leftover(sandbox, marks)
        return None

    async def remove_leftover(self, leftover: Leftover) -> None:
        if leftover.kind == "volume":
            for volume in await self.volume_list():
                if volume.name == leftover.id:
                    await self.volume_remove(volume)
            return
        with suppress(NotFound):
            await end(self.sdk, await self.sandbox(leftover.handle["modal"]))
        if leftover.own and leftover.sandbox_id:
            forget(self.token_file(leftover.sandbox_id))
