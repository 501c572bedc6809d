"""Sandboxes at Modal: a container of its own machine, with TLS to its supervisor, gone when that one leaves.

The main process is the supervisor: it leaves when it is idle, and so the sandbox ends and costs nothing; there is no
stopped one to be started. Modal's own ``idle_timeout`` is not used: it takes a turn that nobody watches for idleness.
What ends everything at last is Modal's ``timeout``, a day at most. Shortly before it the supervisor leaves in order,
and the next message brings another sandbox, with the same HOME and the same session.

``<state>/modal/`` (0700) holds ``run/<sandbox id>``, the token of its supervisor, and ``images/``, what was built.
All else is asked of Modal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentctl.errors import NotFound, SandboxNotFound
from agentctl.paths import StatePaths
from agentctl.providers.base import Capabilities, Endpoint, Found, SandboxSpec, SandboxState
from agentctl.providers.modal import place, request, tags
from agentctl.providers.modal.agents import ModalAgents
from agentctl.providers.modal.create import Wanted, bring_up, detached, end, forget, way_to
from agentctl.providers.modal.door import ask_to_leave, endpoint_to
from agentctl.providers.modal.image import image_of
from agentctl.providers.modal.place import sandbox_id_of
from agentctl.providers.modal.sdk import import_sdk
from agentctl.providers.modal.talk import tail_of
from agentctl.providers.trees import check_relative
from agentctl.wire import Boot

if TYPE_CHECKING:
    import modal

Json = dict[str, Any]
_TIMED_OUT, _TERMINATED = 124, 137


class ModalProvider(ModalAgents):
    """Implements ``ImageProvider``.

    A handle is ``{"sandbox": our id, "modal": theirs, "host", "port", "expires_at"}``.
    """

    capabilities = Capabilities(
        default_cwd=place.HOME,
        boundary="none",
        local_volumes=False,
        layout=place.LAYOUT,
        images=True,
        machines=True,
    )

    def __init__(self, paths: StatePaths) -> None:
        super().__init__(paths)

    async def check(self) -> None:
        await self.sdk.hello()

    async def create(self, spec: SandboxSpec) -> Json:
        for path in (spec.home, spec.log):
            check_relative(path)
        request.check(spec.compute)
        import_sdk()
        life_s = request.lifetime_s(spec)
        expires_at = float(int(time.time()) + life_s)

        async def make(attempt: str) -> Wanted:
            marks = tags.tags_of(spec, self.installation, attempt, expires_at)
            return Wanted(spec.sandbox_id, _boot(spec, expires_at), await self._how(spec, life_s), marks)

        up = await bring_up(self.sdk, self.paths, self.token_file(spec.sandbox_id), make)
        return self._handle(spec.sandbox_id, up.modal_id, up.host, up.port, expires_at)

    def _handle(self, sandbox_id: str, theirs: str, host: str, port: int, expires_at: float | None) -> Json:
        return {"sandbox": sandbox_id, "modal": theirs, "host": host, "port": port, "expires_at": expires_at}

    async def _how(self, spec: SandboxSpec, life_s: int) -> Json:
        image, homes, logs, agents = await asyncio.gather(
            image_of(self.sdk, spec.image, spec.compute, self.paths.modal / "images", spec.progress),
            self.named_volume("find the volume", spec.volume.handle["homes"], make=True),
            self.named_volume("find the volume", spec.volume.handle["logs"], make=True),
            self.agents_volume(),
        )
        kept = spec.log.removesuffix("/log")
        return {
            "image": image,
            "volumes": {
                place.HOME: homes.with_mount_options(sub_path=spec.home),
                place.KEPT: logs.with_mount_options(sub_path=kept),
                place.LAYOUT.agents: agents.with_mount_options(read_only=True),
            },
            "timeout": life_s,
            **request.resources(spec.compute),
            **request.network(spec.compute),
        }

    async def inspect(self, handle: Json) -> SandboxState:
        try:
            sandbox = await self.sandbox(handle["modal"])
        except NotFound:
            return SandboxState(status="missing")
        facts: Json = {
            "boundary": self.capabilities.boundary,
            "modal_id": handle["modal"],
            "transport": f"tls {handle['host']}:{handle['port']}",
            "expires_at": handle["expires_at"],
        }
        code = sandbox.returncode
        if code is None:
            return SandboxState(status="running", facts=facts)
        if code == _TERMINATED or not self.token_file(sandbox_id_of(handle)).exists():
            return SandboxState(status="missing")  # of an ended one there is nothing that could be started
        return SandboxState(status="stopped", detail=_why_ended(code), facts=facts)

    async def endpoint(self, handle: Json) -> tuple[Endpoint, str]:
        sandbox_id = sandbox_id_of(handle)
        try:
            sandbox = await self.sandbox(handle["modal"])
        except NotFound:
            raise _gone(sandbox_id, "") from None
        if sandbox.returncode is not None:
            raise _gone(sandbox_id, _why_ended(sandbox.returncode))
        return endpoint_to(handle["host"], handle["port"]), await self._token(handle)

    async def _token(self, handle: Json) -> str:
        """As this machine has it; else, made by another one, as the sandbox itself has it. Raise ``NotFound``."""
        sandbox_id = sandbox_id_of(handle)
        with suppress(FileNotFoundError):
            return self.token_file(sandbox_id).read_text()
        sandbox = await self.sandbox(handle["modal"])

        async def read(_: Any) -> str:
            process = await sandbox.exec.aio("cat", f"{place.PRIVATE}/token")
            said = str(await process.stdout.read.aio())
            await detached(sandbox)
            return said

        token = await self.sdk.call("read the supervisor's token", read)
        if not token:
            raise _gone(sandbox_id, "it has no supervisor")
        return token

    async def remove(self, handle: Json, *, at_once: bool = False) -> None:
        sandbox_id = sandbox_id_of(handle)
        with suppress(NotFound):
            sandbox = await self.sandbox(handle["modal"])
            if sandbox.returncode is None:
                if not at_once:
                    await self._let_leave(sandbox, handle)
                await end(self.sdk, sandbox)
        forget(self.token_file(sandbox_id))

    async def _let_leave(self, sandbox: modal.Sandbox, handle: Json) -> None:
        """Its last words, and what it wrote to volumes, are there when it has ended by itself."""
        with suppress(NotFound):
            token = await self._token(handle)
            if await ask_to_leave(endpoint_to(handle["host"], handle["port"]), token):
                await self.wait_for_end(sandbox)

    async def logs(self, handle: Json, *, max_bytes: int) -> bytes:
        sandbox_id = sandbox_id_of(handle)
        try:
            sandbox = await self.sandbox(handle["modal"])
            if sandbox.returncode == _TERMINATED:
                raise _without_log(sandbox_id)
            said = await self.sdk.call("read the supervisor's log", lambda _: tail_of(sandbox, max_bytes))
            await detached(sandbox)
            return said
        except NotFound:
            raise _without_log(sandbox_id) from None

    async def find_by_labels(self, labels: dict[str, str]) -> AsyncIterator[Found]:
        """Those of this installation; or of the origin that is asked for, which machines that share a store have in
        common."""
        wanted = tags.label_tags(labels)
        if "origin" not in labels:
            wanted[tags.INSTALLATION] = self.installation
        for sandbox, marks in await self._list(wanted):
            if tags.SANDBOX in marks and wanted.items() <= marks.items():
                yield await self._as_found(sandbox, marks)

    async def _list(self, wanted: dict[str, str]) -> list[tuple[modal.Sandbox, dict[str, str]]]:
        import_sdk()
        import modal

        app = await self.sdk.app()

        async def listed(client: modal.Client) -> list[tuple[modal.Sandbox, dict[str, str]]]:
            found = [one async for one in modal.Sandbox.list.aio(app_id=app.app_id, tags=wanted, client=client)]
            return list(zip(found, await asyncio.gather(*(one.get_tags.aio() for one in found)), strict=True))

        return await self.sdk.call("list sandboxes", listed)

    async def _as_found(self, sandbox: modal.Sandbox, marks: dict[str, str]) -> Found:
        host, port = await way_to(self.sdk, sandbox)
        expires_at = tags.time_of(marks, tags.EXPIRES_AT)
        return Found(
            sandbox_id=marks[tags.SANDBOX],
            handle=self._handle(marks[tags.SANDBOX], sandbox.object_id, host, port, expires_at),
            labels=tags.users_labels(marks),
            created_at=tags.time_of(marks, tags.CREATED_AT),
        )


def _boot(spec: SandboxSpec, expires_at: float) -> Boot:
    leaves_at = min(spec.boot.expires_at or expires_at, expires_at - request.LEAVE_S)
    return replace(
        spec.boot,
        listen={"host": "0.0.0.0", "port": place.PORT},  # noqa: S104 - Modal's tunnel comes from outside
        log_root=place.LOG,
        home=place.HOME,
        tmp=place.TMP,
        agent_env=place.environment(spec.sandbox_id, spec.boot.agent_env),
        expires_at=leaves_at,
        keep={"to": place.KEPT, "home": False},
    )


def _gone(sandbox_id: str, detail: str) -> SandboxNotFound:
    return SandboxNotFound(
        f"Sandbox {sandbox_id} is gone{': ' + detail if detail else ''}.",
        hint="The next message to its session brings a new one.",
    )


def _without_log(sandbox_id: str) -> SandboxNotFound:
    return SandboxNotFound(f"Sandbox {sandbox_id} is gone, and its log with it.")


def _why_ended(code: int) -> str:
    if code == _TIMED_OUT:
        return "its time was over: Modal ends a sandbox after 24 hours"
    if code == _TERMINATED:
        return "it was terminated"
    return "the supervisor has ended" if code == 0 else f"it ended with exit code {code}"
