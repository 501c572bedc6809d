"""What every provider promises. One contract suite (``tests/contract/``) runs on each of them.

A provider knows how to make, find and unmake a place where the supervisor runs, and how to reach it; everything inside
the sandbox is the supervisor's. A provider raises ``SandboxError`` and its children, never its SDK's own errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from agentctl.compute import Compute
from agentctl.frozen import frozen
from agentctl.model import Volume
from agentctl.wire import SANDBOX_ENV, Boot

if TYPE_CHECKING:
    from agentctl.supervisor.files.tree import Files

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Opens one byte stream to the supervisor; raises ``SupervisorUnreachable``."""


@frozen
class Endpoint:
    """A door to a supervisor: how to open a stream, and the headers each request needs besides the token; a ``Host``
    among them goes before ours. ``renew`` gives the door as it is now, for one that somebody else keeps and may change:
    it is asked when the door refuses us."""

    dial: Dial
    headers: dict[str, str] = field(default_factory=dict)
    renew: Callable[[], Awaitable[Endpoint]] | None = None


@frozen
class Layout:
    """Where a sandbox that has files of its own finds the interpreter (a path, or a name on PATH), the bundle and the
    agents."""

    python: str
    runtime: str
    agents: str = "/opt/agentctl/agents"


@frozen
class Capabilities:
    """What the provider has. ``boundary`` is what separates agent and supervisor: ``none``, ``uid`` or ``vm``.

    ``local_volumes``: a volume is of use on this host only. ``parts``: it has an answer to
    ``SandboxSpec.parts``. ``layout``: None where a sandbox sees this host's files.
    """

    default_cwd: str | None
    boundary: Literal["none", "uid", "vm"]
    local_volumes: bool
    layout: Layout | None = None
    pause: bool = False
    images: bool = False
    machines: bool = False
    """Whether it is an ``ImageProvider``."""
    parts: bool = False
    starts_again: bool = False
    """Whether it is a ``StartingProvider``."""


@frozen
class FilesDoor:
    """A supervisor that has the files of a volume at ``root``, is confined to them, and has nothing else."""

    endpoint: Endpoint
    token: str
    root: str


Progress = Callable[[str, int | None, int | None], None]
"""How a long step goes on: what it is, how much is done, and of how much (bytes, or steps of a build), where known."""


def quiet(what: str, done: int | None, whole: int | None) -> None:
    """The ``Progress`` that nobody watches."""


LABELS_OF_VOLUMES = ("origin", "owner", "created-at", "version")
NO_LABELS: Mapping[str, str] = MappingProxyType({})

Tell = Callable[[str, dict[str, Any]], None]
"""What became of a part of a sandbox while it is made, as an event: its type (``service.ready``) and its data."""


def untold(kind: str, data: dict[str, Any]) -> None:
    """The ``Tell`` that nobody hears."""


Damaged = Callable[[str, int, int], None]
"""What is wrong with the pieces of a kept log (``torn``, ``missing``), the last event that can be read of it, and the
last one that there was."""


def unheard(problem: str, last: int, reaches: int) -> None:
    """The ``Damaged`` that nobody hears."""


@frozen
class SandboxSpec:
    """``home`` is the volume-relative directory mounted as the agent's HOME: ``agents/<session>/home`` or
    ``workspaces/<name>``; ``log`` likewise for the session's log: ``agents/<session>/log``. ``boot`` has everything but
    what only the provider knows (``listen``, ``home``, ``tmp``, ``log_root``, parts of ``agent_env``), which the
    provider fills in. ``image`` and ``compute`` are for
    providers that take them (``lookup.COMPUTE``), and ``progress`` is told how pulls and builds go on.
    ``parts`` are further directories of the volume and where the sandbox has them: volume-relative → absolute.
    ``start_timeout_s`` is how long a service may take until it is ready, None as long as the provider thinks fit;
    ``tell`` hears what became of each.
    """

    sandbox_id: str
    session_id: str | None
    volume: Volume
    home: str
    log: str
    boot: Boot
    labels: dict[str, str] = field(default_factory=dict)
    image: str | None = None
    compute: Compute = field(default_factory=Compute)
    progress: Progress = quiet
    parts: dict[str, str] = field(default_factory=dict)
    start_timeout_s: float | None = None
    tell: Tell = untold


def sandbox_environment(sandbox_id: str, home: str, tmp: str) -> dict[str, str]:
    """What makes a sandbox a sandbox to its agents, whatever else they get: its id, HOME, TMPDIR, XDG directories."""
    return {
        "HOME": home,
        "TMPDIR": tmp,
        "XDG_CONFIG_HOME": f"{home}/.config",
        "XDG_DATA_HOME": f"{home}/.local/share",
        "XDG_STATE_HOME": f"{home}/.local/state",
        "XDG_CACHE_HOME": f"{home}/.cache",
        SANDBOX_ENV: sandbox_id,
    }


@frozen
class SandboxState:
    """What the backend itself says of a sandbox; never read from the store."""

    status: Literal["running", "paused", "stopped", "missing"]
    detail: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@frozen
class Found:
    """A sandbox found by its labels. ``handle`` works in every other call of the provider."""

    sandbox_id: str
    handle: dict[str, Any]
    labels: dict[str, str]
    created_at: float | None


class Provider(Protocol):
    """A ``handle`` is the provider's own JSON object; it is enough to do everything below from another process."""

    name: str
    capabilities: Capabilities

    async def check(self) -> None:
        """Return when the backend can be used now; raise ``ProviderUnavailable`` with the fix otherwise."""

    async def create(self, spec: SandboxSpec) -> dict[str, Any]:
        """Bring up a sandbox whose supervisor answers, and return its handle. On any failure, cancellation included,
        nothing of it is left behind."""

    async def inspect(self, handle: dict[str, Any]) -> SandboxState:
        """Ask the backend. ``missing`` is an answer, not an error."""

    async def endpoint(self, handle: dict[str, Any]) -> tuple[Endpoint, str]:
        """The door to the supervisor and its token. Raise ``SandboxNotFound`` when the sandbox is gone."""

    async def remove(self, handle: dict[str, Any], *, at_once: bool = False) -> None:
        """End every process and resource of the sandbox, but never its volume. Removing a missing one succeeds.
        When this returns, no process of the sandbox is alive. ``at_once``: the supervisor is not waited for, since
        nothing that it could still write is wanted; what runs in the sandbox gets TERM and a grace all the same."""

    async def logs(self, handle: dict[str, Any], *, max_bytes: int) -> bytes:
        """The end of what the sandbox itself printed: its supervisor's own log. Raise ``SandboxNotFound`` when there
        is none any more."""

    def find_by_labels(self, labels: dict[str, str]) -> AsyncIterator[Found]:
        """Every sandbox of this backend that carries all ``labels``, live or not."""

    async def volume_create(self, name: str, labels: Mapping[str, str] = NO_LABELS) -> Volume:
        """Create the volume, or return it when it is there, with the labels that it was made with. They are those of
        ``LABELS_OF_VOLUMES``, and tell ``cleanup-orphans`` whose it is, where the backend can keep them."""

    async def volume_list(self) -> list[Volume]:
        """All volumes of this backend, by name."""

    async def volume_remove(self, volume: Volume) -> None:
        """Delete the volume and all in it. Removing a missing one succeeds."""

    def volume_path(self, volume: Volume, relative: str) -> Path | None:
        """Where a volume-relative path lies on this host, or None when only a sandbox can reach it.
        Raise ``UsageError`` for a path that leaves the volume."""

    def volume_reading(
        self, volume: Volume, relative: str, damaged: Damaged = unheard
    ) -> AbstractAsyncContextManager[Path]:
        """A directory on this host with the files of a directory of the volume, to be read: the place itself, or a
        copy that lasts as long as the block. It does not exist when the volume has no such thing. ``damaged`` hears of
        a log that is kept in pieces, and ends before them."""

    def volume_files(self, volume: Volume) -> AbstractAsyncContextManager[Files | FilesDoor]:
        """The files of the volume while the block lasts, with no sandbox of a session alive: themselves where this host
        reaches them, else a door to them. No path and no symbolic link leads out of the volume; what is written belongs
        to whom agents run as. Nothing is left behind but what was written. Raise ``VolumeNotFound`` when the volume is
        gone."""

    async def session_remove(self, volume: Volume, session_id: str) -> bool | None:
        """Delete ``agents/<session_id>`` from the volume: home and log. Removing a missing one succeeds. Return whether
        the volume holds nothing any more; None where an empty volume is in nobody's way."""

    async def workspace_remove(self, volume: Volume, name: str) -> None:
        """Delete ``workspaces/<name>`` and all in it, however its modes are. Removing a missing one succeeds."""


@frozen
class Machine:
    """What programs have to be made for to run in a sandbox: ``platform`` as npm names it (``linux-x64-musl``), and
    where the Node on its PATH lies, if there is one. ``image`` is what it is told to users as."""

    image: str
    platform: str
    node: str | None = None
    node_version: str | None = None


class ImageProvider(Provider, Protocol):
    """A provider that has ``Capabilities.machines`` and a ``Layout``: its sandboxes do not see this host's programs."""

    async def check_image(self, image: str | None, compute: Compute) -> str | None:
        """What to keep in a spec as the image of new sandboxes: the name that the Dockerfile of ``compute`` stands for
        now, else ``image``. Nothing is pulled or built. Raise ``UsageError`` when none is named and there is no default
        one, naming what makes one."""

    async def machine(self, spec_image: str | None, compute: Compute, progress: Progress) -> Machine:
        """What a sandbox of this image would be; it is pulled or built when it is missing. Raise ``ImageNotFound``, or
        ``UsageError`` for one in which no supervisor can run or which cannot be built."""

    async def machine_of(self, handle: dict[str, Any]) -> Machine:
        """What a sandbox is. Raise ``SandboxNotFound``."""

    async def bring(self, machine: Machine, directory: Path, key: str, progress: Progress) -> str:
        """Have a directory of this host's agents where sandboxes of that machine see it, read-only, and return its path
        there. ``key`` is a relative path that names its content: what is there under it is not brought again."""

    async def build_runtime(self, request: RuntimeBuild, progress: Progress) -> RuntimeImage:
        """Build the image that sandboxes are made from when none is named. On any error there is none of it."""


@frozen
class RuntimeBuild:
    """How to build the default image; None is what agentctl would take. ``ca_bundle`` is a PEM file of this host.
    ``arguments`` are the provider's own; ``afresh``: with newer bases and packages, where there are any."""

    tag: str | None = None
    ca_bundle: str | None = None
    arguments: dict[str, str] = field(default_factory=dict)
    afresh: bool = False


@frozen
class RuntimeImage:
    """``id`` is the backend's, None where images have only names."""

    tag: str
    id: str | None
    changed: bool


class PausingProvider(Provider, Protocol):
    """A provider that has ``Capabilities.pause``."""

    async def pause(self, handle: dict[str, Any]) -> None:
        """Freeze all that runs in the sandbox; ``inspect`` says ``paused`` then. Pausing a paused one succeeds."""

    async def resume(self, handle: dict[str, Any]) -> None:
        """Let it go on where it was. Resuming a running one succeeds."""


class StartingProvider(Provider, Protocol):
    """A provider that has ``Capabilities.starts_again``: a stopped sandbox keeps its disk, under its handle."""

    async def start(self, handle: dict[str, Any], spec: SandboxSpec) -> None:
        """Bring up a stopped sandbox, or one whose supervisor has ended or does not answer: its disk is as it was,
        nothing runs that ran before, and a supervisor with the ``boot`` of ``spec`` answers; its token may be the one
        that it had. Raise ``SandboxNotFound`` when there is nothing that could be started any more. On any other error
        what there is of it stays."""

    async def stop(self, handle: dict[str, Any], *, archive: bool = False) -> None:
        """End all that runs in the sandbox and keep its disk; ``inspect`` says ``stopped`` then. ``archive``: and have
        it where it costs least and starts slowest. Stopping a stopped one succeeds, and a missing one."""


class ServingProvider(Provider, Protocol):
    """A provider that has an answer to ``Compute.services``.

    ``create`` starts them with the sandbox, returns when the required ones are ready and had their ``post_start``, and
    raises ``ServiceFailed`` for one that is not. ``inspect`` tells of them in ``facts["services"]``: ``{name:
    {"status", "detail", "image", "required"}}``, ``status`` one of ``starting``, ``ready``, ``paused``, ``failed`` and
    ``missing``. They are paused, resumed and removed with the sandbox, and stop when it does.
    """

    async def service_logs(self, handle: dict[str, Any], name: str, *, max_bytes: int) -> bytes:
        """The end of what a service printed. Raise ``NotFound`` with those that there are."""
