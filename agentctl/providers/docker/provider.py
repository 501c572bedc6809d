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

from agentctl.errors import Conflict, NotFound, SandboxError, SandboxNotFound
from agentctl.paths import StatePaths
from agentctl.providers.base import Capabilities, Endpoint, Found, SandboxSpec, SandboxState
from agentctl.providers.docker import container, images, network, proxy, service_states, shelf, side_watch
from agentctl.providers.docker.backend import (
    ATTEMPT,
    IMAGE,
    NETWORK,
    PYTHON,
    ROLE,
    SANDBOX,
    remove_labelled,
    sandbox_id_of,
)
from agentctl.providers.docker.engine import engine_url
from agentctl.providers.docker.machines import DockerMachines
from agentctl.providers.docker.start import TOKEN, Attempt, Made, both, bring_up, nothing
from agentctl.providers.docker.volumes import DockerVolumes
from agentctl.providers.trees import check_relative, remove_tree
from agentctl.wire import Boot

Json = dict[str, Any]
STOP_GRACE_S = 10
AT_ONCE_GRACE_S = 2
_STOPPED = {"exited", "dead", "created", "removing"}
_LOG_LINES = 10_000


class DockerProvider(DockerMachines, DockerVolumes):
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
            parts=True,
            machines=True,
        )

    async def check(self) -> None:
        await self.engine().call("answer", lambda api: api.ping())

    async def create(self, spec: SandboxSpec) -> Json:
        for path in (spec.home, spec.log):
            check_relative(path)
        network.check(spec.compute)
        engine = self.engine_of(spec.volume)
        image = await images.ready(self, engine, spec.image, spec.compute, spec.progress)
        boot = _boot(spec, image)
        made = await bring_up(self, engine, image, spec.sandbox_id, boot, lambda attempt: self._make(attempt, spec))
        return {"engine": engine.url, "container": made, "sandbox": spec.sandbox_id}

    async def _make(self, attempt: Attempt, spec: SandboxSpec) -> Made:
        volume, engine = spec.volume.handle["volume"], attempt.engine
        # It is there, or somebody removed it behind our back.
        about = await engine.call(
            "find the volume",
            lambda api: api.create_volume(volume, labels=self.volume_labels(spec.volume.name, spec.labels)),
        )
        labels = container.labels_of(spec, self.installation, attempt.image, attempt.label)
        programs = await self._programs(attempt, spec, labels)
        making = both(
            engine.call(
                f"make the container of sandbox {spec.sandbox_id}",
                lambda api: container.create(
                    api,
                    spec,
                    attempt.image,
                    mountpoint=about["Mountpoint"],
                    places=attempt.places,
                    programs=programs,
                    labels=labels,
                ),
            ),
            shelf.make_directories(
                engine,
                volume,
                attempt.image,
                _directories(spec),
                {**self.installation_labels(), ATTEMPT: attempt.label},
                about["Mountpoint"],
            ),
        )
        on_it = both(network.make(engine, spec, labels), proxy.make(attempt, spec, labels))
        (made, helper), (_, egress) = await both(making, on_it)
        await self._send_bundle(attempt, spec, made)
        return Made(made, helper, lambda: self._beside(attempt, spec, egress, made, labels))

    async def _beside(
        self, attempt: Attempt, spec: SandboxSpec, egress: str | None, made: str, labels: dict[str, str]
    ) -> None:
        opening = proxy.start(attempt, self.paths, spec, egress) if egress is not None else nothing()
        await both(opening, self._services(attempt, spec, made, labels))
        if spec.compute.services or egress is not None:
            side_watch.begin(attempt.engine, made, attempt.label)

    async def _services(self, attempt: Attempt, spec: SandboxSpec, made: str, labels: dict[str, str]) -> None:
        if spec.compute.services:
            from agentctl.providers.docker.services import Inside, Services

            environment = container.environment(spec, attempt.image)
            inside = Inside(made, f"{shelf.AGENT_USER}:{shelf.AGENT_USER}", environment, container.HOME)
            services = Services(attempt.engine, spec, labels, inside)
            await services.bring_up(attempt.is_up, self.run_dir(spec.sandbox_id))

    async def inspect(self, handle: Json) -> SandboxState:
        try:
            about = await self._inspected(handle)
        except NotFound:
            return SandboxState(status="missing")
        state = await self._with_services(handle, about, self._state(handle, about))
        if about["Config"]["Labels"].get(NETWORK) != "allow":
            return state
        wrong, refused = await proxy.told(self.engine(handle["engine"]), sandbox_id_of(handle))
        return replace(state, detail=state.detail or wrong, facts={**state.facts, "refused": refused})

    async def _with_services(self, handle: Json, about: Json, state: SandboxState) -> SandboxState:
        labels = about["Config"]["Labels"]
        if service_states.SERVICES not in labels:
            return state
        sandbox_id, running = sandbox_id_of(handle), state.status == "running"
        services = await self.engine(handle["engine"]).call(
            "look at the services",
            lambda api: service_states.states(api, sandbox_id, labels, self.run_dir(sandbox_id), running=running),
        )
        return replace(state, facts={**state.facts, "services": services})

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
            "network_policy": about["Config"]["Labels"].get(NETWORK, "open"),
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
        await remove_labelled(engine, f"{SANDBOX}={sandbox_id}")
        await asyncio.to_thread(remove_tree, self.run_dir(sandbox_id))

    async def pause(self, handle: Json) -> None:
        await self._freeze(handle, "pause", "paused")
        await self._freeze_beside(handle, "pause", "running")

    async def resume(self, handle: Json) -> None:
        await self._freeze_beside(handle, "unpause", "paused")
        await self._freeze(handle, "unpause", "running")

    async def _freeze_beside(self, handle: Json, verb: str, status: str) -> None:
        """What stands beside the sandbox and has that status; what has ended meanwhile is left alone."""
        sandbox_id = sandbox_id_of(handle)

        def freeze(api: Any) -> None:
            from docker import errors as sdk

            for beside in service_states.side_containers(api, sandbox_id, status):
                with suppress(sdk.APIError):
                    getattr(api, verb)(beside)

        await self.engine(handle["engine"]).call(f"{verb} what is beside the container", freeze)

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

    async def service_logs(self, handle: Json, name: str, *, max_bytes: int) -> bytes:
        sandbox_id = sandbox_id_of(handle)
        try:
            said: bytes = await self.engine(handle["engine"]).call(
                f"read the log of the service {name}",
                lambda api: service_states.log_of(api, service_states.service_name(sandbox_id, name), _LOG_LINES),
            )
        except NotFound:
            raise await self._no_service(handle, name) from None
        return said[-max_bytes:]

    async def _no_service(self, handle: Json, name: str) -> NotFound:
        services = (await self.inspect(handle)).facts.get("services") or {}
        if name in services:
            return NotFound(f"The container of the service {name} is gone, and its log with it.")
        there = f"There is: {', '.join(services)}." if services else "It has none."
        return NotFound(f"The sandbox {sandbox_id_of(handle)} has no service {name!r}.", hint=there)

    async def find_by_labels(self, labels: dict[str, str]) -> AsyncIterator[Found]:
        """Those of this installation: the engine may serve others, too. One of which only a side container or a
        network is left is found as well."""
        engine = self.engine()
        wanted = {"label": [self.own_label(), SANDBOX, *container.label_filters(labels)]}
        for about in await engine.call("list containers", lambda api: _listed(api, wanted)):
            sandbox_id = about["Labels"][SANDBOX]
            yield Found(
                sandbox_id=sandbox_id,
                handle={"engine": engine.url, "container": about["Id"], "sandbox": sandbox_id},
                labels=container.users_labels(about["Labels"]),
                created_at=float(about["Created"]) or None,
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
    return [shelf.Directory(path, 0o700, shelf.AGENT_USER) for path in (spec.home, spec.log, *spec.parts)]


def _listed(api: Any, wanted: Json) -> list[Json]:
    """One thing of each sandbox: its own container, if it is there."""
    containers = sorted(api.containers(all=True, filters=wanted), key=lambda about: ROLE in about["Labels"])
    networks = [{**about, "Id": about["Name"], "Created": 0} for about in api.networks(filters=wanted)]
    found: Json = {}
    for about in [*containers, *networks]:
        found.setdefault(about["Labels"][SANDBOX], about)
    return list(found.values())


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
