"""What Modal is asked to make: everything about a sandbox in the one call that creates it."""

from __future__ import annotations

import ipaddress
import math
import time
from typing import Any

from agentctl.compute import Compute
from agentctl.errors import Unsupported
from agentctl.providers.base import SandboxSpec

Json = dict[str, Any]
LONGEST_S = 24 * 3600
"""Modal ends a sandbox after a day, whatever runs."""

LEAVE_S = 120
"""So long before that its supervisor leaves: in order, with its log and its HOME written."""

_MIB = 1024 * 1024
_HTTPS = "443"


def check(compute: Compute) -> None:
    """Raise ``Unsupported`` for what Modal cannot do, before anything is made."""
    network(compute)


def lifetime_s(spec: SandboxSpec) -> int:
    """How long the sandbox may live: a day, or to the end that it was given, which its supervisor sees to."""
    if spec.boot.expires_at is None:
        return LONGEST_S
    return min(LONGEST_S, max(LEAVE_S, math.ceil(spec.boot.expires_at - time.time()) + LEAVE_S))


def resources(compute: Compute) -> Json:
    """Requested and at most: what is asked for is had, and no more."""
    wanted: Json = {}
    if compute.cpus is not None:
        wanted["cpu"] = (compute.cpus, compute.cpus)
    if compute.memory_bytes is not None:
        mib = math.ceil(compute.memory_bytes / _MIB)
        wanted["memory"] = (mib, mib)
    return wanted


def network(compute: Compute) -> Json:
    """``none`` and ``isolated`` are an empty list of what may be reached: with all network blocked, Modal would let us
    not reach the supervisor either. Names that are allowed are checked by Modal in the TLS of port 443."""
    match compute.network:
        case "none" | "isolated":
            return {"outbound_cidr_allowlist": []}
        case "allow":
            return {"outbound_domain_allowlist": [_domain(place) for place in compute.allow]}
    return {}


def _domain(place: str) -> str:
    host, _, port = place.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        is_name = True
    else:
        is_name = False
    if not is_name or port != _HTTPS:
        raise Unsupported(
            f"Modal cannot allow {place} alone: it allows names, and port 443 of them only.",
            hint="Give NAME:443, or use another provider: docker allows any port.",
        )
    return host
