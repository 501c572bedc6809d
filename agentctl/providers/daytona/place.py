"""Where things are in a daytona sandbox, and what it is called and labelled."""

from __future__ import annotations

import hashlib
import re
import time
import zlib
from typing import Any, NamedTuple

from agentctl import __version__, ids
from agentctl.providers.base import Layout, SandboxSpec, sandbox_environment

Json = dict[str, Any]
PLACE = "/opt/agentctl"
RUNTIME = f"{PLACE}/runtime"
AGENTS = f"{PLACE}/agents"
RUN = f"{PLACE}/run"
TOKEN = f"{RUN}/token"
ENDED = f"{RUN}/ended"
LOG = f"{PLACE}/log"
HOME = "/home/agent"
TMP = "/tmp"  # noqa: S108 - the sandbox's own
KEPT = "/vol"
"""What of the volume a session's sandbox has: ``agents/<session>``."""

WHOLE = "/volume"
"""Where a sandbox that only works on a volume has all of it."""

LAYOUT = Layout(python="python3", runtime=RUNTIME, agents=AGENTS)

INSTALLATION = "agentctl.installation"
SANDBOX = "agentctl.sandbox"
ATTEMPT = "agentctl.attempt"
CREATED_AT = "agentctl.created-at"
VERSION = "agentctl.version"
ROLE = "agentctl.role"
_USERS = "agentctl.label."
_ORIGIN = "origin"
_VOLUME = re.compile(r"agentctl-(?:([0-9a-f]{8})-)?([0-9a-f]{10})-(?P<name>.+)")
_FIRST_PORT, _PORTS = 10_240, 20_000
"""Below the ports that systems give away by themselves."""

_NOT_PASSED = {"HOME", "PWD", "OLDPWD", "SHLVL", "_", "TMPDIR"}


def name_of(sandbox_id: str) -> str:
    """Its name at Daytona, known before it is made: it is what a lost one is found by."""
    return f"agentctl-{sandbox_id.replace('_', '-')}"


class VolumeName(NamedTuple):
    """What a volume's name at Daytona says, which has no labels for volumes. ``origin`` is a mark, not the origin
    itself; None for a volume that was made without one."""

    origin: str | None
    installation: str
    name: str

    def __str__(self) -> str:
        return "-".join(("agentctl", *filter(None, self)))

    @classmethod
    def of(cls, full_name: str) -> VolumeName | None:
        """None for a volume that is not agentctl's."""
        found = _VOLUME.fullmatch(full_name)
        return cls(*found.groups()) if found and ids.is_name(found["name"]) else None


def origin_mark(origin: str | None) -> str | None:
    return hashlib.sha256(origin.encode()).hexdigest()[:8] if origin else None


def port_of(sandbox_id: str) -> int:
    """Where its supervisor listens, on the loopback that Daytona's proxy reaches: one that what the user runs there
    hardly wants."""
    return _FIRST_PORT + zlib.crc32(sandbox_id.encode()) % _PORTS


def labels_of(spec: SandboxSpec, installation: str, attempt: str) -> dict[str, str]:
    """``attempt`` tells what one call of create made from all else."""
    return {
        **own_labels(installation, attempt),
        SANDBOX: spec.sandbox_id,
        **{f"{_USERS}{name}": value for name, value in spec.labels.items()},
    }


def own_labels(installation: str, attempt: str) -> dict[str, str]:
    return {
        INSTALLATION: installation,
        ATTEMPT: attempt,
        CREATED_AT: str(int(time.time())),
        VERSION: __version__,
    }


def users_labels(labels: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix(_USERS): value for name, value in labels.items() if name.startswith(_USERS)}


def label_filter(labels: dict[str, str], installation: str) -> dict[str, str]:
    """What Daytona is asked for. The origin says as well as the installation whose a sandbox is, and machines that
    share a store have it in common."""
    wanted = {f"{_USERS}{name}": value for name, value in labels.items()}
    return wanted if _ORIGIN in labels else {INSTALLATION: installation, **wanted}


def environment(sandbox_id: str, given: dict[str, str], machine: dict[str, str]) -> dict[str, str]:
    """The whole environment of agents: the machine's, then the session's, then what makes the sandbox a sandbox."""
    passed = {k: v for k, v in machine.items() if k not in _NOT_PASSED and not k.startswith("DAYTONA_")}
    own = sandbox_environment(sandbox_id, HOME, TMP)
    return {"TERM": "dumb", **passed, **given, **own}
