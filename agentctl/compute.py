"""What a sandbox is made of, where its provider lets one choose: limits, network, mounts, ports, services.

All fields are JSON values or dataclasses of them: a session's spec carries a ``Compute`` into the store and back.
"""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any, Literal

from agentctl.frozen import frozen

Json = dict[str, Any]

Network = Literal["open", "isolated", "none", "allow"]
"""``isolated``: only the sandbox's own services; ``allow``: besides these, what ``Compute.allow`` lists."""


@frozen
class Mount:
    """A directory or file of the host's, seen in the sandbox at ``target``."""

    source: str
    target: str
    writable: bool = False


@frozen
class Port:
    """A TCP port of the sandbox, published on the host's loopback; ``host`` None picks one, told by ``inspect``."""

    container: int
    host: int | None = None


@frozen
class Healthcheck:
    """When a service is ready. ``test`` is a command's words, or one text for a shell. Times as Docker means them."""

    test: tuple[str, ...] | str
    interval_s: float = 30.0
    timeout_s: float = 30.0
    retries: int = 3
    start_period_s: float = 0.0
    start_interval_s: float = 5.0

    @classmethod
    def from_json(cls, data: Json) -> Healthcheck:
        return cls(**{**data, "test": _words(data["test"])})


@frozen
class Service:
    """A container beside the sandbox, reached by its ``name``. ``command`` goes to the image's entrypoint.
    ``post_start`` runs in the sandbox, as the agent's user, once the service is ready. One text of either is for a
    shell. A ``required`` one that fails takes the sandbox with it."""

    name: str
    image: str
    required: bool = True
    env: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] | str | None = None
    healthcheck: Healthcheck | None = None
    post_start: tuple[str, ...] | str | None = None
    cpus: float | None = None
    memory_bytes: int | None = None

    @classmethod
    def from_json(cls, data: Json) -> Service:
        check = data.get("healthcheck")
        words = {name: _words(data.get(name)) for name in ("command", "post_start")}
        return cls(**{**data, **words, "healthcheck": Healthcheck.from_json(check) if check else None})


@frozen
class Compute:
    """Everything about the machine of a sandbox but its image.

    ``dockerfile`` is the absolute path of one to build the image from. ``ca_bundle`` is a PEM file that agents trust
    besides what the image trusts. ``cpus`` and ``memory_bytes`` None is no limit of its own. ``allow`` are
    ``host:port`` of the network policy ``allow``. ``read_only`` is the image's root file system.
    """

    dockerfile: str | None = None
    ca_bundle: str | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int = 512
    mounts: tuple[Mount, ...] = ()
    ports: tuple[Port, ...] = ()
    network: Network = "open"
    allow: tuple[str, ...] = ()
    read_only: bool = False
    services: tuple[Service, ...] = ()

    def asked(self) -> list[str]:
        """The names of the fields that are not as they are by default."""
        plain = Compute()
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(plain, f.name)]

    @classmethod
    def from_json(cls, data: Json) -> Compute:
        nested = {
            "mounts": tuple(Mount(**mount) for mount in data.get("mounts", ())),
            "ports": tuple(Port(**port) for port in data.get("ports", ())),
            "allow": tuple(data.get("allow", ())),
            "services": tuple(Service.from_json(service) for service in data.get("services", ())),
        }
        return cls(**{**data, **nested})


def _words(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
