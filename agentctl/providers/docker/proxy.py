"""The one way out of a sandbox with the network policy ``allow``: a container with a forward proxy beside it.

It is on the engine's default bridge and on the sandbox's own, internal network, runs ``supervisor/egress`` in the
sandbox's image as nobody, and has nothing: no capability, no file it could write, no secret. Agents know of it by the
usual variables; who does not heed them reaches nothing. It is not started again when it dies: ``inspect`` says so.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from agentctl.errors import SandboxError
from agentctl.paths import StatePaths
from agentctl.providers.base import SandboxSpec
from agentctl.providers.docker import bridge as streams
from agentctl.providers.docker import network
from agentctl.providers.docker.backend import ROLE
from agentctl.providers.docker.container import LAYOUT, LOG_LIMITS, runtime_mount
from agentctl.providers.docker.engine import Engine
from agentctl.providers.docker.runtime import runtime_for, send_runtime
from agentctl.providers.docker.start import Attempt
from agentctl.supervisor.egress.refused import MOST, WHY, clean

Json = dict[str, Any]
EGRESS_ROLE = "egress"
READY_TIMEOUT_S = 30.0
_NOBODY = "65534:65534"
_WALLS: Json = {
    "init": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "pids_limit": 64,
    "mem_limit": "128m",
    "memswap_limit": "128m",
    "read_only": True,
}


def name_of(sandbox_id: str) -> str:
    """No service's container can be called so."""
    return f"{network.name_of(sandbox_id)}_{EGRESS_ROLE}"


async def make(attempt: Attempt, spec: SandboxSpec, labels: dict[str, str]) -> str | None:
    """Make the proxy's container, not started, and return its id; None for a sandbox that needs none."""
    if spec.compute.network != "allow":
        return None
    what = f"make the proxy of sandbox {spec.sandbox_id}"
    return await attempt.engine.call(what, lambda api: _create(api, attempt, spec, {**labels, ROLE: EGRESS_ROLE}))


def _create(api: Any, attempt: Attempt, spec: SandboxSpec, labels: dict[str, str]) -> str:
    from docker.types import LogConfig

    host = api.create_host_config(
        **_WALLS,
        log_config=LogConfig(type="json-file", config=LOG_LIMITS),
        network_mode=network.BRIDGE,
        mounts=[runtime_mount(attempt.places, labels)],
    )
    made = api.create_container(
        attempt.image.id,
        name=name_of(spec.sandbox_id),
        entrypoint=[attempt.image.python, "-IS", f"{LAYOUT.runtime}/__main__.py", EGRESS_ROLE],
        command=[network.EGRESS, str(network.EGRESS_PORT), *spec.compute.allow],
        user=_NOBODY,
        working_dir="/",
        labels=labels,
        healthcheck={"test": ["NONE"]},
        host_config=host,
    )
    return str(made["Id"])


async def start(attempt: Attempt, paths: StatePaths, spec: SandboxSpec, proxy: str) -> None:
    """Return when it listens on the sandbox's network, which is there. Raise ``SandboxError`` when it does not."""
    engine = attempt.engine
    if attempt.places is None:
        await send_runtime(engine, proxy, await asyncio.to_thread(runtime_for, paths, engine, attempt.image))
    await network.connect(engine, spec.sandbox_id, proxy, network.EGRESS)
    async with await streams.attach(engine, proxy) as talk:
        await engine.call("start the sandbox's proxy", lambda api: api.start(proxy))
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                line = await talk.stdout.readline()
        except TimeoutError:
            line = b""
        if line != b"ready\n":
            said = talk.stderr.decode(errors="replace").strip()
            raise SandboxError(
                f"The proxy of sandbox {spec.sandbox_id}, which its network policy needs, does not start.",
                details={"log": said},
            )


async def told(engine: Engine, sandbox_id: str) -> tuple[str, list[Json]]:
    """What is wrong with the proxy, if anything, and what it refused: host, port, count, first, last, why."""
    return await engine.call("look at the sandbox's proxy", lambda api: _told(api, name_of(sandbox_id)))


def _told(api: Any, name: str) -> tuple[str, list[Json]]:
    from docker import errors as sdk

    try:
        state = api.inspect_container(name)["State"]
        lines = api.logs(name, stdout=True, stderr=False, tail=2 * MOST)
    except sdk.NotFound:
        return "the proxy is gone: nothing outside can be reached", []
    if state["Running"]:
        return ("the proxy is paused" if state["Paused"] else ""), refused_of(lines)
    why = "ran out of memory" if state["OOMKilled"] else f"ended with exit code {state['ExitCode']}"
    return f"the proxy {why}: nothing outside can be reached", refused_of(lines)


def refused_of(log: bytes) -> list[Json]:
    """Those of a proxy's log, the latest last. The log is what a container wrote, and taken for no more than that."""
    found: Json = {}
    for line in log.splitlines():
        try:
            said = json.loads(line)
            count = {
                "host": clean(said["host"]),
                "port": int(said["port"]),
                "count": int(said["count"]),
                "first": float(said["first"]),
                "last": float(said["last"]),
                "why": said["why"] if said["why"] in WHY else "",
            }
        except (ValueError, TypeError, KeyError, OverflowError):
            continue
        found[f"{count['host']}:{count['port']}"] = count
    return sorted(found.values(), key=lambda count: float(count["last"]))[-MOST - 1 :]
