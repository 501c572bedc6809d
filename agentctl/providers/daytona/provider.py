"""Sandboxes of Daytona's cloud: a machine each, started and ended through the SDK, reached by its preview proxy.

HOME and log live on the sandbox's disk and are kept on the volume as whole files (``supervisor/keep``). A sandbox that
stopped is started again, with its disk; one that cannot be is replaced: what it had is on the volume.
``<state>/daytona/run/<sandbox id>`` (0600) is the token of its supervisor, the same for as long as there is the
sandbox; another machine asks the sandbox for it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentctl import ids
from agentctl.errors import (
    AgentctlError,
    Conflict,
    DeadlineExceeded,
    NotFound,
    ProviderUnavailable,
    QuotaExceeded,
    SandboxError,
    SandboxNotFound,
    UsageError,
)
from agentctl.providers.base import Capabilities, Endpoint, Found, SandboxSpec, SandboxState
from agentctl.providers.daytona import again, place, request
from agentctl.providers.daytona import create as creation
from agentctl.providers.daytona.agents import DaytonaAgents
from agentctl.providers.daytona.boot import STOP_S, prepare, run, start_supervisor, stop_supervisor
from agentctl.providers.daytona.client import Account, call, connected
from agentctl.providers.daytona.door import endpoint_to
from agentctl.providers.daytona.states import status_of
from agentctl.providers.daytona.volumes import timestamp
from agentctl.providers.finish import finished
from agentctl.providers.trees import check_relative, make_private_directory, write_private
from agentctl.wire import Boot

Json = dict[str, Any]
FIRST_CONTACT_S = 15.0
AT_ONCE_S = 2.0

_LOST = (NotFound, SandboxError, Conflict, UsageError, DeadlineExceeded)
_NOT_LOST = (ProviderUnavailable, QuotaExceeded)
"""What a start may fail by that another sandbox would not do without; nothing but these is worth to be waited for."""


class DaytonaProvider(DaytonaAgents):
    """Implements ``ImageProvider``, ``PausingProvider`` and ``StartingProvider``.

    A handle is ``{"api_url", "daytona": Daytona's id of it, "sandbox": ours}``.
    """

    capabilities = Capabilities(
        default_cwd=place.HOME,
        boundary="none",  # they are one user in the machine that is theirs alone
        local_volumes=False,
        layout=place.LAYOUT,
        images=True,
        machines=True,
        pause=True,
        starts_again=True,
    )

    async def check(self) -> None:
        import_and_account = Account.of(os.environ)
        try:
            async with asyncio.timeout(FIRST_CONTACT_S), connected(import_and_account) as daytona:
                await call("answer", daytona.volume.list)
        except TimeoutError as e:
            raise ProviderUnavailable(
                f"Daytona at {import_and_account.api_url} did not answer within {FIRST_CONTACT_S:g} s.",
                hint="Look at DAYTONA_API_URL and your network.",
            ) from e

    # sandboxes
    async def create(self, spec: SandboxSpec) -> Json:
        for path in (spec.home, spec.log):
            check_relative(path)
        request.check(spec)
        account = self.account(spec.volume.handle["api_url"])
        async with connected(account) as daytona:
            volume_id = await self.volume_id(daytona, spec.volume)
            params = request.params_of(spec, volume_id, place.labels_of(spec, self.installation, secrets.token_hex(8)))
            is_image = not request.is_snapshot(spec)
            limit_s = creation.BUILD_S if is_image else creation.SNAPSHOT_S
            sandbox = await creation.made(daytona, params, timeout_s=limit_s)
            try:
                facts = await prepare(sandbox)
                await self.send_wanted(sandbox, spec, facts)
                await start_supervisor(sandbox, self.paths, _boot(spec), facts)
                self._keep_token(spec.sandbox_id, spec.boot.token)
            except BaseException:
                self._token_path(spec.sandbox_id).unlink(missing_ok=True)
                await finished(creation.discard(daytona, params, late_s=0))
                raise
            return self._handle(account, sandbox.id, spec.sandbox_id)

    async def start(self, handle: Json, spec: SandboxSpec) -> None:
        sandbox_id = sandbox_id_of(handle)
        try:
            async with connected(self.account(handle["api_url"])) as daytona:
                sandbox = await found_of(daytona, handle)
                await again.started(sandbox)
                with suppress(AgentctlError):  # it never had one
                    spec = replace(spec, boot=replace(spec.boot, token=await self._token(sandbox, sandbox_id)))
                facts = await prepare(sandbox)
                await self.send_wanted(sandbox, spec, facts)
                await start_supervisor(sandbox, self.paths, _boot(spec), facts)
                self._keep_token(sandbox_id, spec.boot.token)
                self.remember(spec.volume, spec.log, sandbox.id)
        except _LOST as e:
            if isinstance(e, _NOT_LOST):
                raise
            raise _gone(sandbox_id, f"it could not be started again: {e.message}") from e

    async def stop(self, handle: Json, *, archive: bool = False) -> None:
        async with connected(self.account(handle["api_url"])) as daytona:
            with suppress(NotFound):
                sandbox = await found_of(daytona, handle)
                await _ended_in_order(sandbox, STOP_S)
                await again.stopped(sandbox, archive=archive)

    async def pause(self, handle: Json) -> None:
        await self._with(handle, again.paused)

    async def resume(self, handle: Json) -> None:
        await self._with(handle, again.resumed)

    async def _with(self, handle: Json, work: Callable[[Any], Awaitable[None]]) -> None:
        try:
            async with connected(self.account(handle["api_url"])) as daytona:
                await work(await found_of(daytona, handle))
        except NotFound:
            raise _gone(sandbox_id_of(handle), "") from None

    async def inspect(self, handle: Json) -> SandboxState:
        try:
            async with connected(self.account(handle["api_url"])) as daytona:
                sandbox = await found_of(daytona, handle)
                return await self._state(sandbox)
        except NotFound:
            return SandboxState(status="missing")

    async def _state(self, sandbox: Any) -> SandboxState:
        status, detail = status_of(sandbox)
        facts = {
            "boundary": self.capabilities.boundary,
            "daytona": sandbox.id,
            "state": str(getattr(sandbox.state, "value", sandbox.state)),
            "snapshot": sandbox.snapshot,
            "target": sandbox.target,
            "transport": "preview proxy",
        }
        if status == "running" and await _has_ended(sandbox):
            return SandboxState(status="stopped", detail="the supervisor has ended", facts=facts)
        if status == "missing":
            return SandboxState(status="missing")
        return SandboxState(status=status, detail=detail, facts=facts)

    async def endpoint(self, handle: Json) -> tuple[Endpoint, str]:
        sandbox_id = sandbox_id_of(handle)
        account = self.account(handle["api_url"])
        try:
            async with connected(account) as daytona:
                sandbox = await found_of(daytona, handle)
                status, detail = status_of(sandbox)
                if status != "running":
                    raise _gone(sandbox_id, detail)
                door = endpoint_to(account, sandbox, place.port_of(sandbox_id))
                has_ended, endpoint = await asyncio.gather(_has_ended(sandbox), door)
                if has_ended:
                    raise _gone(sandbox_id, "its supervisor has ended")
                return endpoint, await self._token(sandbox, sandbox_id)
        except SandboxNotFound:
            raise
        except NotFound:
            raise _gone(sandbox_id, "") from None

    async def remove(self, handle: Json, *, at_once: bool = False) -> None:
        async with connected(self.account(handle["api_url"])) as daytona:
            with suppress(NotFound):
                sandbox = await found_of(daytona, handle)
                await _ended_in_order(sandbox, AT_ONCE_S if at_once else STOP_S)
                await creation.deleted(sandbox)
        self._token_path(sandbox_id_of(handle)).unlink(missing_ok=True)

    async def logs(self, handle: Json, *, max_bytes: int) -> bytes:
        sandbox_id = sandbox_id_of(handle)
        try:
            async with connected(self.account(handle["api_url"])) as daytona:
                sandbox = await found_of(daytona, handle)
                if status_of(sandbox)[0] != "running":
                    raise SandboxNotFound(f"Sandbox {sandbox_id} is stopped, and its log cannot be read.")
                code, said = await run(sandbox, "read its log", f"tail -c {int(max_bytes)} {place.RUN}/log", 30)
        except SandboxNotFound:
            raise
        except NotFound:
            raise SandboxNotFound(f"Sandbox {sandbox_id} is gone, and its log with it.") from None
        return said.encode()[-max_bytes:] if code == 0 else b""

    async def find_by_labels(self, labels: dict[str, str]) -> AsyncIterator[Found]:
        """Those of this installation; with an origin, of all that share it."""
        account = Account.of(os.environ)
        wanted = place.label_filter(labels, self.installation)
        async with connected(account) as daytona:
            for sandbox in await call("list sandboxes", lambda: listed(daytona, wanted)):
                sandbox_id = sandbox.labels.get(place.SANDBOX)
                # Daytona's list may lag behind what it made and unmade.
                if sandbox_id is None or not wanted.items() <= sandbox.labels.items():
                    continue
                if status_of(sandbox)[0] == "missing":
                    continue
                yield Found(
                    sandbox_id=sandbox_id,
                    handle=self._handle(account, sandbox.id, sandbox_id),
                    labels=place.users_labels(sandbox.labels),
                    created_at=timestamp(sandbox.created_at),
                )

    async def _token(self, sandbox: Any, sandbox_id: str) -> str:
        with suppress(FileNotFoundError):
            return self._token_path(sandbox_id).read_text()
        content: bytes = await call("read the token", lambda: sandbox.fs.download_file(place.TOKEN))
        self._keep_token(sandbox_id, content.decode())
        return content.decode()

    def _keep_token(self, sandbox_id: str, token: str) -> None:
        path = self._token_path(sandbox_id)
        make_private_directory(path.parent)
        write_private(path, token)

    def _token_path(self, sandbox_id: str) -> Path:
        return self.paths.daytona / "run" / sandbox_id

    def _handle(self, account: Account, daytona_id: str, sandbox_id: str) -> Json:
        return {"api_url": account.api_url, "daytona": daytona_id, "sandbox": sandbox_id}


def sandbox_id_of(handle: Json) -> str:
    sandbox_id = handle["sandbox"]
    if not ids.is_name(sandbox_id):
        raise SandboxError(f"{sandbox_id!r} is not the id of a sandbox.")
    return str(sandbox_id)


async def found_of(daytona: Any, handle: Json) -> Any:
    """The ``AsyncSandbox``. Raise ``NotFound``."""
    return await call("look for the sandbox", lambda: daytona.get(handle["daytona"]))


async def listed(daytona: Any, labels: dict[str, str]) -> list[Any]:
    """Those that bear all of ``labels``, as Daytona's list has them."""
    import daytona as sdk

    return [sandbox async for sandbox in daytona.list(sdk.ListSandboxesQuery(labels=labels, limit=200))]


async def _has_ended(sandbox: Any) -> bool:
    """Whether the supervisor in a started sandbox has left a note that it is over; it cannot be asked for certain."""
    try:
        await call("look at the supervisor", lambda: sandbox.fs.get_file_info(place.ENDED))
    except AgentctlError:
        return False
    return True


def _boot(spec: SandboxSpec) -> Boot:
    return replace(
        spec.boot,
        listen={"host": "127.0.0.1", "port": place.port_of(spec.sandbox_id)},
        log_root=place.LOG,
        home=place.HOME,
        tmp=place.TMP,
        keep={"to": place.KEPT, "home": True},
    )


async def _ended_in_order(sandbox: Any, timeout_s: float) -> None:
    """Its supervisor, where one runs; one that cannot end in good order is ended all the same by what follows."""
    if status_of(sandbox)[0] == "running":
        with suppress(AgentctlError):
            await stop_supervisor(sandbox, timeout_s)


def _gone(sandbox_id: str, detail: str) -> SandboxNotFound:
    return SandboxNotFound(
        f"Sandbox {sandbox_id} is gone{': ' + detail if detail else ''}.",
        hint="The next message to its session brings a new one.",
    )
