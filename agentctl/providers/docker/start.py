"""A supervisor in a container, from nothing to its Ready line, or back to nothing."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from agentctl.errors import Conflict, ProviderUnavailable, SandboxError, SupervisorUnreachable
from agentctl.paths import state_errors
from agentctl.providers.docker import bridge as streams
from agentctl.providers.docker.backend import ATTEMPT, Backend, remove_labelled
from agentctl.providers.docker.container import HostPlaces
from agentctl.providers.docker.engine import Engine
from agentctl.providers.docker.images import Image
from agentctl.providers.docker.runtime import readable, runtime_for, send_runtime
from agentctl.providers.docker.shelf import put_away
from agentctl.providers.docker.socket import dial_socket
from agentctl.providers.finish import finished
from agentctl.providers.trees import make_private_directory, remove_tree, write_private
from agentctl.wire import Boot

READY_TIMEOUT_S = 30.0
SOCKET_TRY_S = 2.0
"""A socket that is bound and cannot be connected to belongs to an engine in a virtual machine."""

DOOR_DIRECTORY, DOOR_KIND, TOKEN = "door", "door.kind", "token"


class Attempt(NamedTuple):
    """One attempt to bring a supervisor up; what it makes in the engine bears ``label``. ``is_up`` is set when the
    supervisor listens."""

    engine: Engine
    image: Image
    places: HostPlaces | None
    label: str
    is_up: asyncio.Event


async def nothing() -> None:
    """What is to be done beside the start of a container that has nothing beside it."""


class Made(NamedTuple):
    """A container that was made, the helper that made directories for it, if one was needed, to be removed, and what
    is to be done while its supervisor starts: other containers that bear the attempt's label are started. If it fails,
    so does all."""

    container: str
    helper: str | None
    beside: Callable[[], Awaitable[Any]] = nothing


Make = Callable[[Attempt], Awaitable[Made]]


async def bring_up(backend: Backend, engine: Engine, image: Image, name: str, boot: Boot, make: Make) -> str:
    """Make ``run/<name>``, have ``make`` create the container, start it and talk to its supervisor until it listens.
    Return the container's id. On any failure, cancellation included, nothing of it is left."""
    run_dir = backend.run_dir(name)
    with state_errors(run_dir):
        make_private_directory(run_dir.parent)
        try:
            run_dir.mkdir(mode=0o700)
        except FileExistsError:
            raise Conflict(f"There is a sandbox {name} already.") from None
    label, is_up = secrets.token_hex(8), asyncio.Event()
    try:
        runtime = await asyncio.to_thread(runtime_for, backend.paths, engine, image)
        places = _places(backend, run_dir, runtime) if engine.is_local else None
        attempt = Attempt(engine, image, places, label, is_up)
        container, helper, beside = await make(attempt)
        if places is None:
            await send_runtime(engine, container, runtime)
        write_private(run_dir / TOKEN, boot.token)
        await both(both(_start(engine, container, boot, is_up), beside()), put_away(engine, helper))
        write_private(run_dir / DOOR_KIND, await _door_of(engine, run_dir))
    except BaseException:
        await finished(_discard(engine, label, run_dir))
        raise
    return container


def _places(backend: Backend, run_dir: Path, runtime: Path) -> HostPlaces:
    door = run_dir / DOOR_DIRECTORY
    with state_errors(door):
        door.mkdir()
        door.chmod(0o777)  # the container's root has no power over the files of our user; run_dir is private
    readable(runtime)
    return HostPlaces(door=str(door), runtime=str(runtime))


async def _start(engine: Engine, container: str, boot: Boot, is_up: asyncio.Event) -> None:
    async with await streams.attach(engine, container) as talk:
        try:
            await engine.call("start the container", lambda api: api.start(container))
        except SandboxError as e:
            if e.retryable:
                e.hint = e.hint or "What the engine said names the cause: a port that is taken, or a limit."
            raise
        await streams.boot_up(talk, boot, READY_TIMEOUT_S)
    is_up.set()


async def _door_of(engine: Engine, run_dir: Path) -> str:
    if engine.is_local:
        with suppress(SupervisorUnreachable, TimeoutError):
            async with asyncio.timeout(SOCKET_TRY_S):
                _, writer = await dial_socket(run_dir / DOOR_DIRECTORY / "sock")
                writer.close()
                return "unix"
    return "exec"


async def _discard(engine: Engine, label: str, run_dir: Path) -> None:
    """An engine that went away keeps what it has, for the sweep of orphans."""
    with suppress(ProviderUnavailable):
        await remove_labelled(engine, f"{ATTEMPT}={label}")
    await asyncio.to_thread(remove_tree, run_dir)


async def both(one: Awaitable[Any], other: Awaitable[Any]) -> Any:
    """Both at once; when one fails, the other is cancelled, and has ended too before the failure is raised."""
    tasks = [asyncio.ensure_future(one), asyncio.ensure_future(other)]
    failures: list[BaseException] = []

    def give_up(done: asyncio.Future[Any]) -> None:
        failure = asyncio.CancelledError() if done.cancelled() else done.exception()
        if failure is not None:
            failures.append(failure)
            for task in tasks:
                task.cancel()

    for task in tasks:
        task.add_done_callback(give_up)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    if failures:
        raise failures[0]
    return results
