"""Sandboxes in containers of a Docker engine: a supervisor that is root of little, an agent that is root of nothing.

``<state>/docker/run/<sandbox id>/`` (0700) holds ``token``, how the supervisor is reached (``door.kind``) and, in
``door/``, the socket that the container binds. All else is asked of the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from agentctl.errors import Conflict, NotFound, SandboxError, SandboxNotFound, UsageError
from agentctl.paths import StatePaths
from agentctl.providers.base import Capabilities, Endpoint, Found, SandboxSpec, SandboxState
from agentctl.providers.docker import container, images, shelf
from agentctl.providers.docker.backend import (
    ATTEMPT,
    IMAGE,
    PYTHON,
    SANDBOX,
    remove_container,
    sandbox_id_of,
    sweep_volumes,
)
from agentctl.providers.docker.engine import engine_url
from agentctl.providers.docker.start import TOKEN, Attempt, Made, both, bring_up
from agentctl.providers.docker.volumes import DockerVolumes
from agentctl.providers.trees import check_relative, remove_tree
from agentctl.wire import Boot

Json = dict[str, Any]
STOP_GRACE_S = 10
AT_ONCE_GRACE_S = 2
_STOPPED = {"exited", "dead", "created", "removing"}
_LOG_LINES = 10_000


class DockerProvider(DockerVolumes):
    """Implements ``Provider``. A handle is ``{"engine": url, "container": id, "sandbox": id}``."""

    def __init__(self, paths: StatePaths) -> None:
        super().__init__(paths)
        self.capabilities = Capabilities(
            default_cwd=container.HOME,
            boundary="uid",
            local_volumes=self.engine(engine_url()).is_local,
            layout=container.LAYOUT,
            pause=True,
            images=True,
        )

    async def check(self) -> None:
        await self.engine().call("answer", lambda api: api.ping())

    async def create(self, spec: SandboxSpec) -> Json:
        for path in (spec.home, spec.log):
            check_relative(path)
        if spec.image is None:
            raise UsageError(
                "A docker sandbox needs an image.",
                hint="Name one that has Python 3.11 or newer: --image python:3.12, or `image` in the configuration.",
            )
        engine = self.engine_of(spec.volume)
        image = await images.look(engine, self.paths, spec.image)
        boot = _boot(spec, image)
        made = await bring_up(self, engine, image, spec.sandbox_id, boot, lambda attempt: self._make(attempt, spec))
        return {"engine": engine.url, "container": made, "sandbox": spec.sandbox_id}

    async def _make(self, attempt: Attempt, spec: SandboxSpec) -> Made:
        volume, engine = spec.volume.handle["volume"], attempt.engine
        # It is there, or somebody removed it behind our back.
        about = await engine.call(
            "find the volume",
            lambda api: api.create_volume(volume, labels=self.volume_labels(spec.volume.name)),
        )
        labels = container.labels_of(spec, self.installation, attempt.image, attempt.label)
        made, helper = await both(
            engine.call(
                f"make the container of sandbox {spec.sandbox_id}",
                lambda api: container.create(
                    api, spec, attempt.image, mountpoint=about["Mountpoint"], places=attempt.places, labels=labels
                ),
            ),
            shelf.make_directories(
                engine,
                volume,
                attempt.image,
                _directories(spec),
                {**self.installation_labels(), ATTEMPT: attempt.label},
            ),
        )
        return Made(made, helper)

    async def inspect(self, handle: Json) -> SandboxState:
        try:
            about = await self._inspected(handle)
        except NotFound:
            return SandboxState(status="missing")
        return self._state(handle, about)

    def _state(self, handle: Json, about: Json) -> SandboxState:
        state = about["State"]
        socket = self.run_dir(sandbox_id_of(handle)) / "door" / "sock"
        by_socket = self.door_kind(sandbox_id_of(handle)) == "unix"
        facts = {
            "boundary": "uid",
            "engine": handle["engine"],
            "container": about["Name"].removeprefix("/"),
            "image": about["Config"]["Labels"].get(IMAGE),
            "transport": f"unix socket {socket}" if by_socket else "docker exec",
            "network": about["HostConfig"]["NetworkMode"],
            "ports": _published(about),
        }
        if state["Status"] == "paused":
            return SandboxState(status="paused", detail="the container is paused", facts=facts)
        if state["Status"] in _STOPPED:
            return SandboxState(status="stopped", detail=_why_stopped(state), facts=facts)
        return SandboxState(status="running", facts={**facts, "pid": state["Pid"]})

    async def endpoint(self, handle: Json) -> tuple[Endpoint, str]:
        sandbox_id = sandbox_id_of(handle)
        try:
            about = await self._inspected(handle)
            token = (self.run_dir(sandbox_id) / TOKEN).read_text()
        except (NotFound, FileNotFoundError):
            raise _gone(sandbox_id, "") from None
        state = self._state(handle, about)
        if state.status != "running":
            raise _gone(sandbox_id, state.detail)
        python = about["Config"]["Labels"][PYTHON]
        engine = self.engine(handle["engine"])
        return await self.endpoint_of(engine, handle["container"], python, sandbox_id), token

    async def remove(self, handle: Json, *, at_once: bool = False) -> None:
        engine, sandbox_id = self.engine(handle["engine"]), sandbox_id_of(handle)
        grace_s = AT_ONCE_GRACE_S if at_once else STOP_GRACE_S
        with suppress(NotFound):
            state = await self.inspect(handle)
            if state.status == "paused":
                await self.resume(handle)  # a frozen one takes no signal
            if state.status in ("running", "paused"):
                await engine.call("stop the container", lambda api: api.stop(handle["container"], timeout=grace_s))
        await engine.call("remove the container", lambda api: remove_container(api, handle["container"]))
        await engine.call("remove its volumes", lambda api: sweep_volumes(api, f"{SANDBOX}={sandbox_id}"))
        await asyncio.to_thread(remove_tree, self.run_dir(sandbox_id))

    async def pause(self, handle: Json) -> None:
        await self._freeze(handle, "pause", "paused")

    async def resume(self, handle: Json) -> None:
        await self._freeze(handle, "unpause", "running")

    async def _freeze(self, handle: Json, verb: str, wanted: str) -> None:
        engine = self.engine(handle["engine"])
        try:
            await engine.call(f"{verb} the container", lambda api: getattr(api, verb)(handle["container"]))
        except (Conflict, NotFound, SandboxError) as e:  # some engines say 500 where others say 409
            state = await self.inspect(handle)
            if state.status == "missing":
                raise _gone(sandbox_id_of(handle), "") from e
            if state.status != wanted:
                raise

    async def logs(self, handle: Json, *, max_bytes: int) -> bytes:
        try:
            said: bytes = await self.engine(handle["engine"]).call(
                "read the container's log",
                lambda api: api.logs(handle["container"], stdout=False, stderr=True, tail=_LOG_LINES),
            )
        except NotFound:
            raise SandboxNotFound(f"Sandbox {sandbox_id_of(handle)} is gone, and its log with it.") from None
        return said[-max_bytes:]

    async def find_by_labels(self, labels: dict[str, str]) -> AsyncIterator[Found]:
        """Those of this installation: the engine may serve others, too."""
        engine = self.engine()
        wanted = {"label": [self.own_label(), SANDBOX, *container.label_filters(labels)]}
        for about in await engine.call("list containers", lambda api: api.containers(all=True, filters=wanted)):
            sandbox_id = about["Labels"][SANDBOX]
            yield Found(
                sandbox_id=sandbox_id,
                handle={"engine": engine.url, "container": about["Id"], "sandbox": sandbox_id},
                labels=container.users_labels(about["Labels"]),
                created_at=float(about["Created"]),
            )

    async def _inspected(self, handle: Json) -> Json:
        about: Json = await self.engine(handle["engine"]).call(
            "look at the container", lambda api: api.inspect_container(handle["container"])
        )
        return about


def _boot(spec: SandboxSpec, image: images.Image) -> Boot:
    return replace(
        spec.boot,
        listen=container.LISTEN,
        log_root=container.LOG,
        home=container.HOME,
        tmp=container.TMP,
        agent_env=container.environment(spec, image),
        agent_uid=shelf.AGENT_USER,
        agent_gid=shelf.AGENT_USER,
    )


def _directories(spec: SandboxSpec) -> list[shelf.Directory]:
    """The log's is the agent's user's too, as whom the supervisor works on files; the agent cannot get there."""
    return [shelf.Directory(path, 0o700, shelf.AGENT_USER) for path in (spec.home, spec.log)]


def _gone(sandbox_id: str, detail: str) -> SandboxNotFound:
    return SandboxNotFound(
        f"Sandbox {sandbox_id} is gone{': ' + detail if detail else ''}.",
        hint="The next message to its session brings a new one.",
    )


def _published(about: Json) -> dict[str, str]:
    """``{"8080/tcp": "127.0.0.1:32768"}``"""
    ports = about["NetworkSettings"]["Ports"] or {}
    return {name: f"{at[0]['HostIp']}:{at[0]['HostPort']}" for name, at in ports.items() if at}


def _why_stopped(state: Json) -> str:
    if state["Status"] == "created":
        return "the container was never started"
    if state["OOMKilled"]:
        return "the container ran out of memory and was killed"
    if state["Error"]:
        return f"the container failed: {state['Error']}"
    if state["ExitCode"] == 0:
        return "the supervisor has ended"
    return f"the container ended with exit code {state['ExitCode']}"
