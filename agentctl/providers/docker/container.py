"""What a sandbox's container is made of: its mounts, its walls, its labels.

The supervisor is root with three capabilities: to start agents as user 1000 (SETUID, SETGID) and to end them (KILL).
The agent has none, cannot get any (no-new-privileges), and cannot pass ``/run/agentctl``, below which the supervisor's
socket and logs are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from agentctl.providers.base import Layout, SandboxSpec, sandbox_environment
from agentctl.providers.docker import certificates, network
from agentctl.providers.docker.backend import ATTEMPT, IMAGE, INSTALLATION, NETWORK, PYTHON, SANDBOX, USERS
from agentctl.providers.docker.images import Image
from agentctl.providers.docker.shelf import PLACE, part_of
from agentctl.wire import SANDBOX_ENV

Json = dict[str, Any]
HOME = "/home/agent"
TMP = "/tmp"  # noqa: S108 - the container's own
PRIVATE = "/run/agentctl"
DOOR = f"{PRIVATE}/door"
SOCKET = f"{DOOR}/sock"
LOG = f"{PRIVATE}/log"
LISTEN: Json = {"unix": SOCKET, "mode": 0o666}
LAYOUT = Layout(python="python3", runtime="/opt/agentctl/runtime")

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LOG_LIMITS = {"max-size": "1m", "max-file": "2"}
_WALLS: Json = {
    "init": True,
    "cap_drop": ["ALL"],
    "cap_add": ["SETUID", "SETGID", "KILL"],
    "security_opt": ["no-new-privileges:true"],
}


class HostPlaces(NamedTuple):
    """Directories of this host that an engine here can mount; None for an engine elsewhere."""

    door: str
    runtime: str


def labels_of(spec: SandboxSpec, installation: str, image: Image, attempt: str) -> dict[str, str]:
    """``attempt`` tells what one call of create made from all else."""
    own = {
        INSTALLATION: installation,
        SANDBOX: spec.sandbox_id,
        PYTHON: image.python,
        ATTEMPT: attempt,
        IMAGE: image.name,
        NETWORK: spec.compute.network,
    }
    from agentctl.providers.docker.service_states import labels_of_sandbox  # it needs what is here

    own |= labels_of_sandbox(spec)
    return {**own, **{f"{USERS}{name}": value for name, value in spec.labels.items()}}


def users_labels(labels: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix(USERS): value for name, value in labels.items() if name.startswith(USERS)}


def label_filters(labels: dict[str, str]) -> list[str]:
    return [f"{USERS}{name}={value}" for name, value in labels.items()]


def environment(spec: SandboxSpec, image: Image) -> dict[str, str]:
    """The whole environment of agents: the image's, then the session's, then what makes the sandbox a sandbox."""
    own = sandbox_environment(spec.sandbox_id, HOME, TMP)
    ways = {**network.environment(spec.compute), **certificates.environment(spec.compute)}
    user = {"TERM": "dumb", "USER": "agent", "LOGNAME": "agent"}
    return {"PATH": _DEFAULT_PATH, **user, **image.env, **ways, **spec.boot.agent_env, **own}


def create(
    api: Any,
    spec: SandboxSpec,
    image: Image,
    *,
    mountpoint: str,
    places: HostPlaces | None,
    programs: list[Any],
    labels: dict[str, str],
) -> str:
    """Make the sandbox's container, not started, and return its id. ``programs`` are mounts of what runs in it."""
    from docker.types import Mount

    mounts = [part_of(mountpoint, spec.home, HOME, labels), part_of(mountpoint, spec.log, LOG, labels), *programs]
    mounts += [part_of(mountpoint, path, target, labels) for path, target in spec.parts.items()]
    mounts += [Mount(m.target, m.source, type="bind", read_only=not m.writable) for m in spec.compute.mounts]
    return _create(
        api,
        image,
        labels,
        name=network.name_of(spec.sandbox_id),
        environment={SANDBOX_ENV: spec.sandbox_id},
        ports=[port.container for port in spec.compute.ports] or None,
        host_config=_host_config(api, spec, [*mounts, *_own_mounts(places, labels)], _tmpfs(places)),
        networking_config=network.of_sandbox(api, spec),
    )


def create_files_only(api: Any, image: Image, volume: str, places: HostPlaces | None, labels: dict[str, str]) -> str:
    """Make a container in which a supervisor has a whole volume and no agent ever runs."""
    from docker.types import Mount

    mounts = [Mount(PLACE, volume, type="volume", no_copy=True), *_own_mounts(places, labels)]
    host = api.create_host_config(**_WALLS, pids_limit=64, network_mode="none", mounts=mounts, tmpfs=_tmpfs(places))
    return _create(api, image, labels, host_config=host)


def _create(api: Any, image: Image, labels: dict[str, str], **how: Any) -> str:
    made = api.create_container(
        image.id,
        entrypoint=[image.python, "-IS", f"{LAYOUT.runtime}/__main__.py", "serve"],
        command=[],
        user="0:0",
        working_dir="/",
        labels=labels,
        stdin_open=True,
        healthcheck={"test": ["NONE"]},
        **how,
    )
    return str(made["Id"])


def _own_mounts(places: HostPlaces | None, labels: dict[str, str]) -> list[Any]:
    """What every supervisor needs: its program and its door."""
    from docker.types import Mount

    door = [] if places is None else [Mount(DOOR, places.door, type="bind")]
    return [*door, runtime_mount(places, labels)]


def runtime_mount(places: HostPlaces | None, labels: dict[str, str]) -> Any:
    """The supervisor's bundle; empty for an engine elsewhere, to be sent there."""
    from docker.types import Mount

    if places is None:
        return Mount(LAYOUT.runtime, None, type="volume", labels=labels, no_copy=True)
    return Mount(LAYOUT.runtime, places.runtime, type="bind", read_only=True)


def _tmpfs(places: HostPlaces | None) -> dict[str, str]:
    """The supervisor alone passes the first; it makes its socket with the agent's file system user id."""
    return {PRIVATE: "mode=0710", **({} if places else {DOOR: "mode=0777"})}


def _host_config(api: Any, spec: SandboxSpec, mounts: list[Any], tmpfs: dict[str, str]) -> Any:
    from docker.types import LogConfig

    compute = spec.compute
    memory = {"mem_limit": compute.memory_bytes, "memswap_limit": compute.memory_bytes} if compute.memory_bytes else {}
    cpus = {"nano_cpus": int(compute.cpus * 1_000_000_000)} if compute.cpus else {}
    if compute.read_only:
        tmpfs[TMP] = "mode=1777,exec"
    return api.create_host_config(
        **_WALLS,
        pids_limit=compute.pids,
        log_config=LogConfig(type="json-file", config=LOG_LIMITS),
        network_mode=network.mode(spec),
        dns=network.dns(compute),
        dns_opt=network.dns_options(compute),
        port_bindings={port.container: ("127.0.0.1", port.host) for port in compute.ports} or None,
        mounts=mounts,
        tmpfs=tmpfs,
        read_only=compute.read_only,
        **memory,
        **cpus,
    )
