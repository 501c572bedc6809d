"""The network of a sandbox: the engine's default bridge, none at all, or a bridge of its own.

One of its own is made for services (their names are its DNS names) and for the policies ``isolated`` and ``allow``.
There it is ``internal``, and the bridge gets no address on the host (``inhibit_ipv4``): ``internal`` alone would leave
every address of the host in reach. Containers on it ask a name server that is not there (``SILENT_DNS``): older engines
forward names that they do not know from the host, through which data could leave. What still gets out of an internal
network: nothing to the host or beyond; containers on the same network see each other.
"""

from __future__ import annotations

import random
import socket
import struct
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from agentctl.compute import Compute
from agentctl.errors import UsageError
from agentctl.providers.base import SandboxSpec
from agentctl.providers.docker.engine import Engine

Json = dict[str, Any]
BRIDGE = "bridge"
SANDBOX_ALIAS = "sandbox"
"""The DNS name of the sandbox itself on a network of its own."""

SILENT_DNS = ["127.0.0.1"]
"""The container's own loopback, as Docker means it: what the engine does not know itself fails at once."""

EGRESS = "agentctl-egress"
EGRESS_PORT = 3128
"""Where the proxy (``proxy.py``) is found on the network of the policy ``allow``."""

_HERE = ("localhost", "127.0.0.1", "::1", SANDBOX_ALIAS)
_CLOSED: Json = {"internal": True, "options": {"com.docker.network.bridge.inhibit_ipv4": "true"}}
_RANGES = tuple(IPv4Network(net) for net in ("10.213.0.0/16", "172.30.0.0/16", "192.168.224.0/19"))
_PREFIX = 26
_TRIES = 8
_NAME_TAKEN = 409
_ROUTES = Path("/proc/net/route")


def check(compute: Compute) -> None:
    """Raise ``UsageError`` for what no network can be: ports or services where its policy leaves none."""
    if compute.ports and compute.network != "open":
        raise UsageError(
            f"A port cannot be published from a sandbox whose network is {compute.network!r}.",
            hint="Leave out --port, or use --network open. `agentctl sandboxes exec` gets in with every network.",
        )
    if compute.services and compute.network == "none":
        raise UsageError(
            "Services cannot be reached without a network.",
            hint="Use --network isolated: the sandbox then reaches its services and nothing else.",
        )
    for service in compute.services:
        if service.name in (SANDBOX_ALIAS, EGRESS, "localhost"):
            raise UsageError(f"A service cannot be called {service.name}: that name is taken.", hint="Rename it.")
    for entry in compute.allow:
        host = entry.rpartition(":")[0].lower()
        if host in ("localhost", "[::1]") or host.startswith("127."):
            raise UsageError(
                f"--network allow: {entry} would be the sandbox itself, not this machine.",
                hint="Name an address of this machine that containers reach, as 172.17.0.1, Docker's usual bridge.",
            )


def has_own(compute: Compute) -> bool:
    """Whether the sandbox has a network of its own, rather than the engine's default bridge or none."""
    return compute.network in ("isolated", "allow") or (compute.network == "open" and bool(compute.services))


def is_internal(compute: Compute) -> bool:
    """Whether that network leads nowhere but to its own containers."""
    return compute.network in ("isolated", "allow")


def name_of(sandbox_id: str) -> str:
    """The name of the sandbox's own network in the engine; its container is called the same."""
    return f"agentctl-{sandbox_id}"


def mode(spec: SandboxSpec) -> str:
    """What ``network_mode`` the sandbox's own container has."""
    if has_own(spec.compute):
        return name_of(spec.sandbox_id)
    return "none" if spec.compute.network == "none" else BRIDGE


def dns(compute: Compute) -> list[str] | None:
    """``dns`` in the host configuration of every container that is on the sandbox's own network alone; None: as the
    engine has it."""
    return SILENT_DNS if is_internal(compute) else None


def dns_options(compute: Compute) -> list[str] | None:
    """``dns_opt`` beside ``dns``: some engines answer nothing rather than no, and a program would wait ten seconds."""
    return ["timeout:1", "attempts:1"] if is_internal(compute) else None


def environment(compute: Compute) -> dict[str, str]:
    """What tells programs in the sandbox of the proxy: both spellings, and the switch that Node's own fetch needs. Its
    services are reached directly."""
    if compute.network != "allow":
        return {}
    url = f"http://{EGRESS}:{EGRESS_PORT}"
    direct = ",".join([*_HERE, *(service.name for service in compute.services)])
    named = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": direct}
    return {**named, **{name.lower(): value for name, value in named.items()}, "NODE_USE_ENV_PROXY": "1"}


def endpoint(api: Any, network: str, *aliases: str) -> Any:
    """``networking_config`` for ``api.create_container``: the container is on ``network`` by these DNS names. Its
    ``network_mode`` must be the same network."""
    return api.create_networking_config({network: api.create_endpoint_config(aliases=list(aliases))})


def of_sandbox(api: Any, spec: SandboxSpec) -> Any:
    """``networking_config`` of the sandbox's own container; None where the network is not its own."""
    return endpoint(api, name_of(spec.sandbox_id), SANDBOX_ALIAS) if has_own(spec.compute) else None


async def make(engine: Engine, spec: SandboxSpec, labels: dict[str, str]) -> None:
    """Make the sandbox's own network, when it has one (``has_own``), with the labels of its container.

    A container may be created on it by name before it is there, but not started. Whoever calls removes it by a label,
    after an error as well: ``backend.remove_labelled`` does, after the containers on it.
    """
    if not has_own(spec.compute):
        return
    how: Json = {"labels": labels, **(_CLOSED if is_internal(spec.compute) else {})}
    name = name_of(spec.sandbox_id)
    await engine.call(f"make the network of sandbox {spec.sandbox_id}", lambda api: _make(api, engine, name, how))


def _make(api: Any, engine: Engine, name: str, how: Json) -> None:
    """On a small subnet of ours: the engine's own pools have room for 30 networks in all."""
    from docker import errors as sdk
    from docker.types import IPAMConfig, IPAMPool

    for subnet in _subnets(engine):
        ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet))])
        try:
            api.create_network(name, driver="bridge", ipam=ipam, check_duplicate=True, **how)
        except sdk.APIError as e:
            if e.status_code == _NAME_TAKEN:
                raise
        else:
            return
    api.create_network(name, driver="bridge", check_duplicate=True, **how)


def _subnets(engine: Engine) -> list[IPv4Network]:
    """Some at random that this host has no route to: all its sandboxes draw from the same."""
    routes = _routes() if engine.is_local else []
    size = 1 << (32 - _PREFIX)
    found = []
    for _ in range(_TRIES):
        whole = random.choice(_RANGES)  # noqa: S311 - no secret
        first = int(whole.network_address) + size * random.randrange(whole.num_addresses // size)  # noqa: S311
        subnet = IPv4Network((first, _PREFIX))
        if not any(subnet.overlaps(route) for route in routes):
            found.append(subnet)
    return found


def _routes() -> list[IPv4Network]:
    """Those of this host but the default one; none where it does not tell."""
    try:
        lines = _ROUTES.read_text().splitlines()[1:]
    except OSError:
        return []
    found = []
    for line in lines:
        _, target, *_, mask = line.split()[:8]
        if int(mask, 16):
            found.append(IPv4Network((_address(target), _address(mask))))
    return found


def _address(little_endian: str) -> str:
    return socket.inet_ntoa(struct.pack("<L", int(little_endian, 16)))


async def connect(engine: Engine, sandbox_id: str, container: str, *aliases: str) -> None:
    """Put a container that exists on the sandbox's own network as well, by these DNS names."""
    name = name_of(sandbox_id)
    await engine.call(
        f"connect a container to the network of sandbox {sandbox_id}",
        lambda api: api.connect_container_to_network(container, name, aliases=list(aliases)),
    )
