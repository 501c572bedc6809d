"""Options about the machine of a sandbox, which commands that make one share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentctl.cli.lazy import options
from agentctl.cli.options import Image
from agentctl.errors import UsageError

if TYPE_CHECKING:
    from agentctl.compute import Compute, Mount, Port, Service

_PANEL = "Sandbox options"
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)
_HOST_PORT = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:\d{1,5}|\[[0-9A-Fa-f:.]+\]:\d{1,5}")
_LAST_PORT = 65535
POLICIES = ("open", "isolated", "none")


@options
class ComputeOptions:
    """What the sandbox is made of; ``compute_of`` reads it."""

    image: Image = None
    dockerfile: Annotated[
        Path | None,
        typer.Option("--dockerfile", metavar="FILE", help="Build the image from this.", rich_help_panel=_PANEL),
    ] = None
    ca_bundle: Annotated[
        Path | None,
        typer.Option(
            "--ca-bundle", metavar="FILE", help="Certificates (PEM) to trust in the sandbox.", rich_help_panel=_PANEL
        ),
    ] = None
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="POLICY",
            help="What it reaches: open, isolated (its services only), none, or allow=HOST:PORT,… (default: open).",
            rich_help_panel=_PANEL,
        ),
    ] = None
    cpus: Annotated[
        str | None, typer.Option("--cpus", metavar="N", help="At most so many processors.", rich_help_panel=_PANEL)
    ] = None
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="SIZE", help="At most so much memory, as 512m or 2g.", rich_help_panel=_PANEL),
    ] = None
    mount: Annotated[
        list[str] | None,
        typer.Option(
            "--mount",
            metavar="SRC:DST[:rw]",
            help="Show a directory or file of this machine in it, read-only without rw. Repeatable.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    port: Annotated[
        list[str] | None,
        typer.Option(
            "--port",
            metavar="[HOST:]PORT",
            help="Publish a port of it on this machine's loopback. Repeatable.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service",
            metavar="NAME=IMAGE",
            help="Run a container beside it, reached by its name; or a JSON object: image, env, command, healthcheck, "
            "required, post_start, cpus, memory. Repeatable.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    read_only: Annotated[
        bool,
        typer.Option("--read-only", help="Nothing but HOME and /tmp can be written.", rich_help_panel=_PANEL),
    ] = False


def compute_of(given: ComputeOptions, **more: Any) -> Compute:
    """Options as what they mean; ``more`` are fields that no option gives. Raise ``UsageError``."""
    from agentctl.compute import Compute

    if given.image is not None and given.dockerfile is not None:
        raise UsageError("--image and --dockerfile cannot go together.", hint="Leave one of them out.")
    return Compute(
        dockerfile=file_of(given.dockerfile, "--dockerfile"),
        ca_bundle=file_of(given.ca_bundle, "--ca-bundle"),
        cpus=None if given.cpus is None else _cpus(given.cpus),
        memory_bytes=None if given.memory is None else size(given.memory, "--memory"),
        mounts=tuple(_mount(text) for text in given.mount or ()),
        ports=_ports(given.port or ()),
        read_only=given.read_only,
        services=_services(given.service),
        **_network(given.network or "open"),
        **more,
    )


def file_of(path: Path | None, option: str) -> str | None:
    """The absolute path of a file of this machine. Raise ``UsageError``."""
    if path is None:
        return None
    path = path.expanduser().absolute()
    if not path.is_file():
        raise UsageError(f"{option} {path} is not a file.")
    return str(path)


def _cpus(text: str) -> float:
    try:
        cpus = float(text)
    except ValueError:
        cpus = 0.0
    if not 0 < cpus < 10_000:
        raise UsageError(f"--cpus {text} is not a number of processors.", hint="Write 2, or 0.5 for half of one.")
    return cpus


def size(text: str, option: str) -> int:
    """Bytes; ``512m`` and ``2g`` are powers of 1024. Raise ``UsageError``."""
    match = _SIZE.fullmatch(text.strip())
    number = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if number <= 0:
        raise UsageError(f"{option} {text} is not a size.", hint="Write 512m or 2g.")
    return number


def _mount(text: str) -> Mount:
    from agentctl.compute import Mount

    source, _, rest = text.partition(":")
    target, _, how = rest.partition(":")
    if not source or not target.startswith("/") or how not in ("", "ro", "rw"):
        raise UsageError(f"--mount {text!r} is not SRC:DST[:rw].", hint="DST is an absolute path in the sandbox.")
    return Mount(source=str(Path(source).expanduser().absolute()), target=target, writable=how == "rw")


def _ports(texts: Iterable[str]) -> tuple[Port, ...]:
    from agentctl.compute import Port

    found = []
    for text in texts:
        host, sign, container = text.rpartition(":")
        numbers = (host, container) if sign else (container,)
        if not all(number.isdecimal() and 0 < int(number) <= _LAST_PORT for number in numbers):
            raise UsageError(f"--port {text!r} is not [HOST:]PORT.", hint="Write 8080, or 18080:8080.")
        found.append(Port(container=int(container), host=int(host) if sign else None))
    return tuple(found)


def _services(texts: list[str] | None) -> tuple[Service, ...]:
    if not texts:
        return ()
    from agentctl.cli.spec_services import services_of

    return services_of(texts)


def _network(text: str) -> dict[str, Any]:
    if text in POLICIES:
        return {"network": text}
    name, sign, listed = text.partition("=")
    allow = tuple(entry.strip() for entry in listed.split(",") if entry.strip())
    if name != "allow" or not sign or not allow:
        raise UsageError(
            f"--network {text!r} is no policy.", hint="Write open, isolated, none, or allow=HOST:PORT,HOST:PORT."
        )
    for entry in allow:
        if not _HOST_PORT.fullmatch(entry) or int(entry.rpartition(":")[2]) not in range(1, _LAST_PORT + 1):
            raise UsageError(f"--network allow: {entry!r} is not HOST:PORT.", hint="As in api.example.com:443.")
    return {"network": "allow", "allow": allow}
