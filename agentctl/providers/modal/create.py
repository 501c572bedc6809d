"""A sandbox with a supervisor that answers, from nothing, or back to nothing."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentctl.errors import AgentctlError, AlreadyExists, Conflict, DeadlineExceeded, NotFound, ProviderUnavailable
from agentctl.paths import state_errors
from agentctl.providers.bootstrap import ensure_runtime
from agentctl.providers.finish import finished
from agentctl.providers.modal import tags, talk
from agentctl.providers.modal.place import PORT, name_of
from agentctl.providers.modal.sdk import APP, Sdk
from agentctl.providers.trees import make_private_directory, write_private
from agentctl.wire import Boot

if TYPE_CHECKING:
    import modal

    from agentctl.paths import StatePaths

Json = dict[str, Any]
CREATE_S = 120.0
READY_S = 300.0
"""A sandbox may wait for a machine that has its image."""

_UNSURE = (ProviderUnavailable, DeadlineExceeded)


class Wanted(NamedTuple):
    """``how`` are the arguments of the SDK's ``Sandbox.create``; ``marks`` its tags."""

    sandbox_id: str
    boot: Boot
    how: Json
    marks: dict[str, str]


class Up(NamedTuple):
    """A sandbox whose supervisor listens: Modal's id of it, and where it is reached from here."""

    modal_id: str
    host: str
    port: int


async def bring_up(sdk: Sdk, paths: StatePaths, token_file: Path, make: Callable[[str], Any]) -> Up:
    """``make(attempt)`` says what is wanted, once it is known to be new: ``token_file`` is not there yet. On any
    failure, cancellation included, nothing of it is left."""
    make_private_directory(token_file.parent)
    attempt = secrets.token_hex(8)
    _claim(token_file)
    wanted: Wanted | None = None
    try:
        program = await asyncio.to_thread(_program, paths)
        wanted = await make(attempt)
        assert wanted is not None
        write_private(token_file, wanted.boot.token)
        sandbox = await _create(sdk, wanted)
        await _boot(sdk, sandbox, program, wanted.boot)
        host, port = await way_to(sdk, sandbox)
        await detached(sandbox)
        return Up(sandbox.object_id, host, port)
    except BaseException:
        forget(token_file)
        if wanted is not None:
            await finished(_discard(sdk, wanted))
        raise


def forget(token_file: Path) -> None:
    with state_errors(token_file):
        token_file.unlink(missing_ok=True)


def _claim(token_file: Path) -> None:
    with state_errors(token_file.parent):
        try:
            token_file.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            raise Conflict(f"There is a sandbox {token_file.name} already.") from None


async def _create(sdk: Sdk, wanted: Wanted) -> modal.Sandbox:
    """One that was made although the answer was lost is found by its name."""
    import modal

    app = await sdk.app()

    async def make(client: modal.Client) -> modal.Sandbox:
        return await modal.Sandbox.create.aio(
            *talk.command(),
            app=app,
            name=name_of(wanted.sandbox_id),
            tags=wanted.marks,
            encrypted_ports=[PORT],
            client=client,
            **wanted.how,
        )

    try:
        return await sdk.call(f"make the sandbox {wanted.sandbox_id}", make, timeout_s=CREATE_S, to_its_end=True)
    except AlreadyExists as e:
        found = await _ours(sdk, wanted)
        if found is None:
            raise Conflict(f"There is a sandbox {wanted.sandbox_id} already.") from e
        return found
    except _UNSURE:
        found = await _ours(sdk, wanted)
        if found is None:
            raise
        return found


async def _ours(sdk: Sdk, wanted: Wanted) -> modal.Sandbox | None:
    """What this very attempt has made, as far as Modal knows now."""
    import modal

    async def find(client: modal.Client) -> tuple[modal.Sandbox, dict[str, str]]:
        found = await modal.Sandbox.from_name.aio(APP, name_of(wanted.sandbox_id), client=client)
        return found, await found.get_tags.aio()

    try:
        found, marks = await sdk.call("look for the sandbox", find)
    except (NotFound, *_UNSURE):
        return None
    return found if marks.get(tags.ATTEMPT) == wanted.marks[tags.ATTEMPT] else None


def _program(paths: StatePaths) -> bytes:
    return talk.program(ensure_runtime(paths), paths.modal / "runtime")


async def _boot(sdk: Sdk, sandbox: modal.Sandbox, program: bytes, boot: Boot) -> None:
    await sdk.call(
        "start the supervisor", lambda _: talk.boot_up(sandbox, program, boot, READY_S), timeout_s=READY_S + 30
    )


async def way_to(sdk: Sdk, sandbox: modal.Sandbox) -> tuple[str, int]:
    """Host and port of its supervisor, for TLS."""
    tunnels = await sdk.call("find the way to the sandbox", lambda _: sandbox.tunnels.aio())
    return tunnels[PORT].tls_socket


async def detached(sandbox: modal.Sandbox) -> None:
    """Close the connection to where its streams come from; the handle is of no use afterwards."""
    await sandbox.detach.aio()  # type: ignore[no-untyped-call]


async def _discard(sdk: Sdk, wanted: Wanted) -> None:
    """What Modal does not tell us of now ends by itself, since nobody tells it what it is for."""
    with suppress(AgentctlError):
        found = await _ours(sdk, wanted)
        if found is not None:
            await end(sdk, found)


async def end(sdk: Sdk, sandbox: modal.Sandbox) -> None:
    """Return when nothing of it runs any more. One that has ended is fine."""

    async def terminate(_: Any) -> None:
        from modal import exception

        with suppress(exception.SandboxTimeoutError, exception.SandboxTerminatedError, exception.NotFoundError):
            await sandbox.terminate.aio(wait=True)

    await sdk.call("end the sandbox", terminate)
    await detached(sandbox)
