"""The containers beside a sandbox: each on the sandbox's own network under its name, made, watched and ended with it.

A service's image is a stranger's: it keeps its entrypoint and its user, has fewer powers than Docker's default, can get
no more (no-new-privileges), and sees nothing of this host. Its environment is in the engine for all to read who may use
the engine, as ``--env`` is in the state directory.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agentctl.compute import Service
from agentctl.errors import (
    AgentctlError,
    Conflict,
    ImageNotFound,
    NotFound,
    ProviderUnavailable,
    SandboxError,
    ServiceFailed,
    UsageError,
)
from agentctl.providers.base import SandboxSpec
from agentctl.providers.docker import command, network, pull
from agentctl.providers.docker.backend import IMAGE, PYTHON, ROLE
from agentctl.providers.docker.engine import Engine
from agentctl.providers.docker.service_health import START_INTERVAL_S, as_docker_has_it, failure, until_ready
from agentctl.providers.docker.service_states import READY_FILE, SERVICE, SERVICES, log_of, service_name
from agentctl.providers.finish import finished
from agentctl.providers.trees import write_private

Json = dict[str, Any]
SERVICE_ROLE = "service"
READY_TIMEOUT_S = 120.0
OPTIONAL_GRACE_S = 10.0
"""How long an optional service may keep a sandbox waiting that is ready itself."""

_LOG_LINES, _LINE_CHARACTERS = 10, 200
_LOG_LIMITS = {"max-size": "1m", "max-file": "2"}
_PIDS = 512
_SHELL = ("/bin/sh", "-c")
_POWERS = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]
"""What servers' entrypoints need: to take over their directories, and to become a user of their own."""


class Inside(NamedTuple):
    """Where, as whom and with what environment commands run in the sandbox itself."""

    container: str
    user: str
    environment: dict[str, str]
    home: str


class Services:
    """The services of one attempt to make a sandbox. ``labels`` are those of its own container; in ``inside`` their
    ``post_start`` commands run."""

    def __init__(self, engine: Engine, spec: SandboxSpec, labels: dict[str, str], inside: Inside) -> None:
        self._engine = engine
        self._spec = spec
        self._labels = {name: value for name, value in labels.items() if name not in (SERVICES, IMAGE, PYTHON)}
        self._inside = inside
        self._timeout_s = spec.start_timeout_s or READY_TIMEOUT_S
        self._began = time.monotonic()
        self._ready: list[str] = []
        self._looked_for = {service.name: asyncio.Event() for service in spec.compute.services}

    async def bring_up(self, is_up: asyncio.Event, run_dir: Path) -> None:
        """Start all; return when the required ones are ready, ``post_start`` included, which waits for ``is_up``. Raise
        ``ServiceFailed`` for the first that is not. Optional ones are told of. Nothing runs on here when this ends, but
        what was made stays: the caller removes it."""
        tasks = {s.name: asyncio.ensure_future(self._started(s)) for s in self._spec.compute.services}
        required = [s for s in self._spec.compute.services if s.required]
        optional = [s for s in self._spec.compute.services if not s.required]
        try:
            await _all_well([tasks[s.name] for s in required])
            await is_up.wait()
            for service in required:
                await self._post_start(service)
                self._tell_ready(service)
            for service in optional:
                await self._looked_for[service.name].wait()
            ends = asyncio.get_running_loop().time() + OPTIONAL_GRACE_S
            for service in optional:
                await self._optional(service, tasks[service.name], ends)
            for service in required:
                await self._runs_still(service)
            write_private(run_dir / READY_FILE, json.dumps(self._ready))
        finally:
            for task in tasks.values():
                task.cancel()
            await finished(asyncio.gather(*tasks.values(), return_exceptions=True))

    async def _started(self, service: Service) -> None:
        """Make the container and wait until it is ready. Raise ``ServiceFailed``."""
        await self._image(service)
        try:
            async with asyncio.timeout(self._timeout_s):
                container = await self._make(service)
                await self._engine.call(f"start the service {service.name}", lambda api: api.start(container))
                check = service.healthcheck
                await until_ready(self._engine, container, check.start_interval_s if check else START_INTERVAL_S)
        except TimeoutError:
            raise await self._failed(service, f"it was not ready within {self._timeout_s:g} s") from None
        except ProviderUnavailable:
            raise
        except (SandboxError, NotFound, Conflict, UsageError) as e:
            raise await self._failed(service, e.message.rstrip(".")) from e

    async def _image(self, service: Service) -> None:
        """Have it pulled when it is missing, for as long as that takes."""
        try:
            await pull.inspected(self._engine, service.image, self._spec.progress)
        except (ImageNotFound, SandboxError) as e:
            if isinstance(e, ProviderUnavailable):
                raise
            raise await self._failed(service, e.message.rstrip(".").replace("The ", "the ", 1)) from e
        finally:
            self._looked_for[service.name].set()

    async def _make(self, service: Service) -> str:
        return await self._engine.call(
            f"make the service {service.name}",
            lambda api: _create(api, self._spec, service, {**self._labels, ROLE: SERVICE_ROLE}),
        )

    async def _post_start(self, service: Service) -> None:
        if service.post_start is None:
            return
        container, user, environment, home = self._inside
        argv = _words(service.post_start)
        try:
            async with asyncio.timeout(self._timeout_s):
                ended = await command.run(
                    self._engine, container, argv, user=user, environment=environment, workdir=home
                )
        except TimeoutError:
            raise await self._failed(service, f"its post_start did not end within {self._timeout_s:g} s") from None
        except (SandboxError, NotFound, Conflict) as e:
            raise await self._failed(service, f"its post_start could not be run: {e.message.rstrip('.')}") from e
        if ended.code:
            said = _shown(ended.said, self._hidden())
            raise await self._failed(service, f"its post_start ended with exit code {ended.code}", said)

    async def _optional(self, service: Service, task: Awaitable[None], ends: float) -> None:
        try:
            async with asyncio.timeout_at(ends):
                await task
                await self._post_start(service)
        except TimeoutError:
            reason = "it was not ready in time; it goes on, without its post_start"
            self._tell_failed(service, await self._failed(service, reason))
        except ServiceFailed as e:
            self._tell_failed(service, e)
        else:
            self._tell_ready(service)

    async def _runs_still(self, service: Service) -> None:
        name = service_name(self._spec.sandbox_id, service.name)
        try:
            about = await self._engine.call("look at a service", lambda api: api.inspect_container(name))
        except NotFound:
            raise await self._failed(service, "somebody removed it") from None
        if (why := failure(about)) is not None:
            raise await self._failed(service, why)

    def _tell_ready(self, service: Service) -> None:
        self._ready.append(service.name)
        took = round((time.monotonic() - self._began) * 1000)
        self._spec.tell("service.ready", {"service": service.name, "duration_ms": took})

    def _tell_failed(self, service: Service, error: ServiceFailed) -> None:
        self._spec.tell("service.failed", {"required": service.required, **error.details})

    async def _failed(self, service: Service, reason: str, said: str = "") -> ServiceFailed:
        """With the end of what the service printed, or of what ``said`` in its stead."""
        reason = " ".join(_shown(reason, self._hidden()).split())
        whose = "What it printed ends with" if said else "Its log ends with"
        log = said or await self._log(service)
        return ServiceFailed(
            f"The service {service.name} failed: {reason}." + (f" {whose}:\n{_indented(log)}" if log else ""),
            hint=f'With --service \'{{"name": "{service.name}", "required": false}}\' the sandbox comes up without '
            f"it, and `agentctl sandboxes logs SANDBOX --service {service.name}` shows all that it says.",
            details={"service": service.name, "reason": reason, "log": log},
        )

    async def _log(self, service: Service) -> str:
        name = service_name(self._spec.sandbox_id, service.name)
        try:
            said = await self._engine.call("read a service's log", lambda api: log_of(api, name, _LOG_LINES))
        except AgentctlError:  # it has none: what it failed of is told already
            return ""
        return _shown(said.decode(errors="replace"), self._hidden())

    def _hidden(self) -> tuple[str, ...]:
        boot = self._spec.boot
        return tuple(secret for secret in (boot.token, *boot.secrets) if secret)


async def _all_well(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Return when all have succeeded; raise what the first of them failed of, without waiting for the others."""
    if tasks:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done:
                task.result()


def _create(api: Any, spec: SandboxSpec, service: Service, labels: dict[str, str]) -> str:
    from docker.types import LogConfig

    where = network.name_of(spec.sandbox_id)
    memory = {"mem_limit": service.memory_bytes, "memswap_limit": service.memory_bytes} if service.memory_bytes else {}
    cpus = {"nano_cpus": int(service.cpus * 1_000_000_000)} if service.cpus else {}
    host = api.create_host_config(
        cap_drop=["ALL"],
        cap_add=_POWERS,
        security_opt=["no-new-privileges:true"],
        pids_limit=_PIDS,
        log_config=LogConfig(type="json-file", config=_LOG_LIMITS),
        network_mode=where,
        dns=network.dns(spec.compute),
        **memory,
        **cpus,
    )
    check = service.healthcheck
    made = api.create_container(
        service.image,
        name=service_name(spec.sandbox_id, service.name),
        command=None if service.command is None else _words(service.command),
        environment=service.env,
        labels={**labels, SERVICE: service.name},
        hostname=service.name,
        healthcheck=as_docker_has_it(check) if check else None,
        host_config=host,
        networking_config=network.endpoint(api, where, service.name),
    )
    return str(made["Id"])


def _words(given: tuple[str, ...] | str) -> list[str]:
    """One text is for a shell."""
    return [*_SHELL, given] if isinstance(given, str) else list(given)


def _shown(text: str, hidden: Sequence[str]) -> str:
    """The last lines of what a stranger printed: cut, in plain characters, without secrets."""
    for secret in hidden:
        text = text.replace(secret, "[redacted]")
    lines = [line.rstrip()[:_LINE_CHARACTERS] for line in text.splitlines() if line.strip()][-_LOG_LINES:]
    return "\n".join("".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in line) for line in lines)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
