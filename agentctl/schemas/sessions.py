"""What ``run`` and the commands of ``sessions`` answer, but for files."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from agentctl import model
from agentctl.frozen import frozen
from agentctl.model import Context, Outcome, Permissions, ProjectMode, SessionStatus
from agentctl.schemas.common import Cost, Error, Result, TurnSummary, UsageOfTurns
from agentctl.schemas.events import Event, Item, PermissionResolved, QuestionResolved

Json = dict[str, Any]
Secret = TypedDict("Secret", {"name": str, "from": str})


class Project(TypedDict):
    path: str
    mode: ProjectMode
    target: str | None
    exclude: NotRequired[list[str]]


class Clone(TypedDict):
    url: str
    path: str | None
    branch: str | None
    depth: int | None
    submodules: bool
    token_env: str | None


class Copy(TypedDict):
    source: str
    target: str
    exclude: NotRequired[list[str]]


class Session(TypedDict):
    """A session. Of variables and secrets only the names are told."""

    id: str
    name: str
    title: str | None
    agent: str
    agent_command: list[str] | None
    provider: str
    status: SessionStatus
    model: str | None
    mode: str | None
    thought_level: str | None
    options: Json
    permissions: Permissions
    cwd: str | None
    root: str | None
    sandbox: str | None
    volume: str
    workspace: str | None
    env: list[str]
    secrets: list[Secret]
    mcp_servers: list[str]
    skills: list[str]
    files: list[str]
    pre_start: list[str]
    user_agent: str | None
    clones: list[Clone]
    copies: list[Copy]
    project: Project | None
    labels: dict[str, str]
    origin: str
    native_session_id: str | None
    sandbox_id: str | None
    place: str | None
    last_sequence: int
    last_turn_id: str | None
    last_outcome: Outcome | None
    usage: UsageOfTurns | None
    cost: Cost | None
    created_at: float
    updated_at: float


class ListedSession(Session):
    queued: int


class Queued(TypedDict):
    """A message that waits in line."""

    turn_id: str
    text: str


class LastTurn(TurnSummary):
    turn_id: str


class Snapshot(TypedDict):
    """What the supervisor of a living session says of it and its agent."""

    sessionId: str
    agent: str
    agentMode: str | None
    permissionMode: Permissions
    model: str | None
    thoughtLevel: str | None
    title: str | None
    nativeSessionId: str | None
    status: SessionStatus
    ended: bool
    eventCount: int
    turnId: str | None
    queue: list[Queued]
    lastTurn: LastTurn | None
    context: Context
    agentInfo: Json | None
    capabilities: Json | None
    configOptions: list[Json] | None
    modes: Json | None
    requests: list[Json]
    usage: Json | None
    cost: Cost | None
    cwd: str
    error: Error | None


class SessionDetails(Session):
    live: Snapshot | None
    queue: list[Queued]


class Sent(TypedDict):
    """A message that was sent and not waited for. Position is 1 for the next in line."""

    session_id: str
    session: str
    turn_id: str
    status: Literal["running", "queued", "ended"]
    position: int | None


class Cancelled(TypedDict):
    turn_id: str | None
    cancelled: bool


_For = TypedDict("_For", {"for": Literal["idle", "turn-ended", "request"]})


class Waited(_For):
    session_id: str
    session: str
    turn_id: str | None
    outcome: Outcome | None
    requests: list[str]


@frozen
class Request(model.Request):
    session: str


class Said(TypedDict):
    turn_id: str | None
    time: str
    item: Item


class ToldItem(TypedDict):
    type: Literal["item"]
    turn_id: str | None
    time: str
    item: Item


class ToldPermission(TypedDict):
    type: Literal["permission"]
    turn_id: str | None
    time: str
    permission: PermissionResolved


class ToldQuestion(TypedDict):
    type: Literal["question"]
    turn_id: str | None
    time: str
    question: QuestionResolved


class ToldTurn(TypedDict):
    """A turn ended."""

    type: Literal["turn"]
    turn_id: str | None
    time: str
    turn: TurnSummary


class Used(TypedDict):
    """What turns used and cost together, and how many there were. Null, never 0, where no agent told any."""

    turns: int
    usage: UsageOfTurns | None
    cost: Cost | None


class UsedByKey(Used):
    key: str


class SessionsUsage(TypedDict):
    by: Literal["session", "turn", "agent", "provider", "day"]
    rows: list[UsedByKey]
    total: Used


class Process(TypedDict):
    """A command in a sandbox. Logs are the paths of its output there, by stream."""

    id: str
    command: str
    args: list[str]
    cwd: str
    tty: bool
    interactive: bool
    owner: str
    status: Literal["running", "exited"]
    createdAtMs: int
    timedOut: bool
    lost: bool
    logs: dict[str, str]
    pid: NotRequired[int]
    exitCode: NotRequired[int]
    signal: NotRequired[int]
    exitedAtMs: NotRequired[int]


Encoding = Literal["utf-8", "base64"]


class Executed(TypedDict):
    """A command that has ended, with the first part of its output."""

    id: str
    exit_code: int | None
    signal: int | None
    timed_out: bool
    lost: bool
    stdout: str
    stdout_encoding: Encoding
    stdout_truncated: bool
    stderr: str
    stderr_encoding: Encoding
    stderr_truncated: bool
    duration_ms: int
    logs: dict[str, str]


class OutputPiece(TypedDict):
    type: Literal["output"]
    sequence: int
    stream: Literal["stdout", "stderr", "pty"]
    data: str
    encoding: Encoding


class MissingOutput(TypedDict):
    """Output that is not kept any more: all before number first, or so many lost bytes."""

    type: Literal["missing"]
    first: int | None
    lost: int | None


class Input(TypedDict):
    id: str
    bytes_written: int
    eof: bool


class Cloned(TypedDict):
    path: str
    url: str
    commit: str | None
    branch: str | None
    cloned: bool


class Change(TypedDict):
    path: str
    status: Literal["added", "modified", "deleted"]
    old_mode: str | None
    new_mode: str | None
    additions: int | None
    deletions: int | None
    binary: bool


class Diff(TypedDict):
    session: str
    path: str
    mode: ProjectMode
    files: list[Change]
    additions: int
    deletions: int
    encoding: NotRequired[Encoding]
    patch: NotRequired[str]


class PulledFiles(TypedDict):
    session: str
    to: str
    written: list[str]
    deleted: list[str]
    same: list[str]


class PulledPatch(TypedDict):
    session: str
    patch: str
    files: int


class Merged(TypedDict):
    session: str
    branch: str
    commit: str
    merged: bool
    head: str


class DeletedSessions(TypedDict):
    deleted: list[str]


COMMANDS: dict[str, Any] = {
    "run-detach": Sent,
    "sessions-create": Session,
    "sessions-list": list[ListedSession],
    "sessions-get": SessionDetails,
    "sessions-update": Session,
    "sessions-resume": Session,
    "sessions-release": Session,
    "sessions-delete": DeletedSessions,
    "sessions-send-message": Result | Sent,
    "sessions-cancel": Cancelled,
    "sessions-wait": Waited,
    "sessions-requests": list[Request],
    "sessions-answer": Request,
    "sessions-transcript": list[Said],
    "sessions-usage": SessionsUsage,
    "sessions-exec": Executed | Process,
    "sessions-processes-list": list[Process],
    "sessions-processes-get": Process,
    "sessions-processes-input": Input,
    "sessions-processes-cancel": Process,
    "sessions-set-model": Session,
    "sessions-set-mode": Session,
    "sessions-set-thought-level": Session,
    "sessions-set-option": Session,
    "sessions-call": Any,
    "sessions-clone-repo": Cloned,
    "sessions-diff": Diff,
    "sessions-pull": PulledFiles | PulledPatch | Merged,
}

LINES: dict[str, Any] = {
    "run": Event | Result,
    "sessions-send-message-stream": Event | Result,
    "sessions-events": Event,
    "sessions-transcript-jsonl": ToldItem | ToldPermission | ToldQuestion | ToldTurn,
    "sessions-processes-logs": OutputPiece | MissingOutput,
}
