"""What Daytona is asked to make: everything about a sandbox in the one call that creates it."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from agentctl.compute import Compute
from agentctl.errors import Unsupported, UsageError
from agentctl.providers.base import SandboxSpec
from agentctl.providers.daytona.place import KEPT, name_of

Json = dict[str, Any]
SNAPSHOT = "snapshot:"
"""``--image snapshot:NAME``"""

IDLE_MARGIN_MIN = 60
"""Daytona takes a turn that nobody watches for idleness: so long one may be quiet."""

ARCHIVE_MIN = 60
DELETE_MIN = 24 * 60
"""Of a stopped one, which is started again from either. It counts against the account's disk until it is archived; when
it is deleted, the volume has its HOME and its log."""

TTL_MIN = 7 * 24 * 60
_GIB = 1024**3
_HTTPS = "443"
_COPY = re.compile(r"^\s*COPY\s+(?!.*--from=)", re.MULTILINE | re.IGNORECASE)
_ADD = re.compile(r"^\s*ADD\s+(?!.*://)", re.MULTILINE | re.IGNORECASE)
_OTHERS = "use --provider docker or --provider modal, which have it."


def check(spec: SandboxSpec) -> None:
    """Raise ``Unsupported`` for what Daytona cannot do, before anything is made."""
    if not _is_session_home(spec):
        raise Unsupported(
            "A shared workspace cannot be on daytona: its volumes take whole files only, so a HOME is kept there as an "
            "archive after every turn, and two sessions would overwrite each other's.",
            hint="Use a session's own HOME (no --workspace), or another provider: docker and modal have workspaces.",
        )
    network(spec.compute)
    if is_snapshot(spec) and (spec.compute.cpus or spec.compute.memory_bytes):
        raise Unsupported(
            "A daytona snapshot has its processors and its memory baked in.",
            hint="--cpus and --memory need an --image or a --dockerfile to make a sandbox from.",
        )


def _is_session_home(spec: SandboxSpec) -> bool:
    return PurePosixPath(spec.home).parts[:1] == ("agents",)


def is_snapshot(spec: SandboxSpec, environ: Mapping[str, str] = os.environ) -> bool:
    return spec.compute.dockerfile is None and (spec.image is None or spec.image.startswith(SNAPSHOT))


def snapshot_of(image: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The snapshot's name; None is Daytona's own default."""
    if image is not None:
        return image.removeprefix(SNAPSHOT) or None
    return environ.get("DAYTONA_SNAPSHOT") or None


def params_of(spec: SandboxSpec, volume_id: str, labels: dict[str, str]) -> Any:
    """The SDK's parameters for a session's sandbox. Raise ``UsageError`` for a Dockerfile that cannot be read."""
    import daytona as sdk

    kept = str(PurePosixPath(spec.home).parent)
    common: Json = {
        "name": name_of(spec.sandbox_id),
        "labels": labels,
        "volumes": [sdk.VolumeMount(volume_id=volume_id, mount_path=KEPT, subpath=kept)],
        **timers(spec.boot.idle_timeout_s, spec.boot.expires_at),
        **network(spec.compute),
    }
    if is_snapshot(spec):
        return sdk.CreateSandboxFromSnapshotParams(snapshot=snapshot_of(spec.image), **common)
    return sdk.CreateSandboxFromImageParams(image=_image(spec), resources=resources(spec.compute), **common)


def _image(spec: SandboxSpec) -> Any:
    import daytona as sdk

    if spec.compute.dockerfile is None:
        return spec.image
    dockerfile = Path(spec.compute.dockerfile)
    try:  # as with any builder, a stranger's Dockerfile gets nothing from beyond its directory
        _check_copies(dockerfile)
        return sdk.Image.from_dockerfile(dockerfile, strict_context=True)
    except (OSError, UnicodeDecodeError, sdk.DaytonaError) as e:
        raise UsageError(f"The Dockerfile {dockerfile} cannot be used: {e}") from e


def _check_copies(dockerfile: Path) -> None:
    """The SDK looks for COPY alone to tell what to send, and takes no notice of ``.dockerignore``."""
    text = dockerfile.read_text()
    if _ADD.search(text):
        raise Unsupported(f"Daytona is sent nothing that ADD in {dockerfile} names.", hint=f"Write COPY, or {_OTHERS}")
    ignored = dockerfile.with_name(".dockerignore")
    if _COPY.search(text) and ignored.is_file() and ignored.read_text().strip():
        raise Unsupported(
            f"Daytona takes no notice of {ignored}: what it leaves out would be sent.",
            hint=f"Build from a directory that needs none, or {_OTHERS}",
        )


def resources(compute: Compute) -> Any:
    """Daytona's machines have whole processors and whole gibibytes: at least what was asked for."""
    import daytona as sdk

    if compute.cpus is None and compute.memory_bytes is None:
        return None
    return sdk.Resources(
        cpu=None if compute.cpus is None else math.ceil(compute.cpus),
        memory=None if compute.memory_bytes is None else math.ceil(compute.memory_bytes / _GIB),
    )


def timers(idle_timeout_s: float | None, expires_at: float | None) -> Json:
    """Daytona's own, in minutes: what ends and clears away a sandbox that nobody can reach any more."""
    stop = 0 if idle_timeout_s is None else math.ceil(idle_timeout_s / 60) + IDLE_MARGIN_MIN
    ttl = TTL_MIN if expires_at is None else max(1, math.ceil((expires_at - time.time()) / 60))
    return {
        "auto_stop_interval": stop,
        "auto_archive_interval": ARCHIVE_MIN,
        "auto_delete_interval": DELETE_MIN,
        "ttl_minutes": ttl,
    }


def network(compute: Compute) -> Json:
    """Its policy in Daytona's words. Raise ``Unsupported`` for what it has no word for."""
    if compute.network == "open":
        return {}
    if compute.network in ("none", "isolated"):  # there are no services, which alone isolated would allow
        return {"network_block_all": True}
    domains = []
    for entry in compute.allow:
        host, _, port = entry.rpartition(":")
        if port == _HTTPS and not _is_address(host):
            domains.append(host)
            continue
        raise Unsupported(
            f"Daytona cannot allow {entry} alone: it knows domains at port 443, and addresses with all of their ports.",
            hint="Allow domains at port 443, or use --provider docker.",
            details={"entry": entry},
        )
    return {"domain_allow_list": ",".join(domains)}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_network(host.strip("[]"), strict=False)
    except ValueError:
        return False
    return True
