"""What the commands of ``sandboxes`` answer."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from agentctl.model import SandboxStatus
from agentctl.schemas.common import Error
from agentctl.schemas.events import SandboxEvent
from agentctl.schemas.sessions import Executed, MissingOutput, OutputPiece, Process, Secret

Json = dict[str, Any]


class Sandbox(TypedDict):
    """A sandbox of its own. Of variables and secrets only the names are told."""

    id: str
    name: str
    status: SandboxStatus
    completed: bool
    provider: str
    image: str | None
    cwd: str | None
    root: str | None
    volume: str
    workspace: str | None
    env: list[str]
    secrets: list[Secret]
    labels: dict[str, str]
    origin: str
    idle_timeout_s: float | None
    ttl_s: float | None
    expires_at: float | None
    error: Error | None
    place: str | None
    created_at: float
    updated_at: float


class Service(TypedDict):
    """A container beside the sandbox."""

    status: str
    detail: str
    image: str | None
    required: bool


class RefusedHost(TypedDict):
    """What the network policy refused: how often, when first and last."""

    host: str
    port: int | None
    count: int
    first: float
    last: float
    why: str


class Backend(TypedDict):
    """What the provider says of it; the facts are its own."""

    status: str
    detail: str
    facts: Json


class Health(TypedDict):
    """What its supervisor says."""

    status: str
    sandbox_id: str
    fencing: int
    pid: int
    version: str
    sessions: int
    idle_s: float
    keep: NotRequired[Json]


class SandboxDetails(Sandbox):
    boundary: str
    transport: str | None
    sweep: str | None
    services: dict[str, Service]
    refused: list[RefusedHost]
    backend: Backend | None
    live: Health | None
    bound_sessions: list[str]
    last_sequence: int


class AcceptedSandbox(Sandbox):
    """One that is changed; completed says whether it is done, else events tell."""

    accepted: bool


class ChangedSandbox(AcceptedSandbox):
    last_sequence: int


class MadeSandbox(ChangedSandbox):
    created: bool


class Log(TypedDict):
    log: str


class RefusedHosts(TypedDict):
    refused: list[RefusedHost]


class Runtime(TypedDict):
    tag: str
    id: str
    provider: str
    changed: bool


COMMANDS: dict[str, Any] = {
    "sandboxes-create": MadeSandbox,
    "sandboxes-list": list[Sandbox],
    "sandboxes-get": SandboxDetails,
    "sandboxes-stop": ChangedSandbox | list[AcceptedSandbox],
    "sandboxes-restart": ChangedSandbox,
    "sandboxes-pause": ChangedSandbox,
    "sandboxes-resume": ChangedSandbox,
    "sandboxes-delete": ChangedSandbox | list[AcceptedSandbox],
    "sandboxes-build-runtime": Runtime,
    "sandboxes-exec": Executed | Process,
    "sandboxes-logs": Log | RefusedHosts,
}

LINES: dict[str, Any] = {
    "sandboxes-events": SandboxEvent,
    "sandboxes-logs-exec": OutputPiece | MissingOutput,
}
