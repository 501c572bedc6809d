"""The events of ``agentctl/events.py``, which says what they mean, and those of sandboxes of their own."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from agentctl.model import OnLost
from agentctl.schemas.common import Cost, Error, TurnSummary

Json = dict[str, Any]
_Span = TypedDict("_Span", {"from": int, "to": int})


class Event(TypedDict):
    """One numbered entry of a session's log. Its type says what is in its data; raw comes with --include-raw."""

    sequence: int
    event_id: str
    time: str
    session_id: str
    native_session_id: str | None
    turn_id: str | None
    source: Literal["agent", "daemon"]
    synthetic: bool
    type: str
    data: Json
    raw: NotRequired[Any]


class SandboxEvent(TypedDict):
    """What became of a sandbox of its own. Its type says what is in its data."""

    sequence: int
    event_id: str
    time: str
    sandbox_id: str
    name: str
    type: str
    data: Json


class _Replayable(TypedDict):
    replayed: NotRequired[bool]


class TextPart(TypedDict):
    type: Literal["text"]
    text: str


class ReasoningPart(TypedDict):
    type: Literal["reasoning"]
    text: str
    visibility: str


class JsonPart(TypedDict):
    type: Literal["json"]
    json: Any


class ToolCallPart(TypedDict):
    type: Literal["tool_call"]
    name: str
    arguments: str
    call_id: str


class ToolResultPart(TypedDict):
    type: Literal["tool_result"]
    call_id: str
    output: str


class FilePart(TypedDict):
    """An edit, as a unified diff; cut where truncated."""

    type: Literal["file_ref"]
    path: str
    action: Literal["write", "patch"]
    diff: str
    truncated: NotRequired[bool]


class ImagePart(TypedDict):
    type: Literal["image"]
    path: str
    mime: str


class StatusPart(TypedDict):
    type: Literal["status"]
    label: str
    detail: str | None


class AcpPart(TypedDict):
    """Any other ACP content block, untouched."""

    type: Literal["acp"]
    content: Any


Part = TextPart | ReasoningPart | JsonPart | ToolCallPart | ToolResultPart | FilePart | ImagePart | StatusPart | AcpPart


class Tool(TypedDict):
    """What a tool call is about, as ACP has it."""

    call_id: str
    name: str
    title: str
    kind: str | None
    locations: list[Any]
    raw_input: Any


class Item(TypedDict):
    """A message, a thought, a tool call or its result, a plan, a notice. Tool results have the call as parent."""

    item_id: str
    native_item_id: str | None
    parent_id: str | None
    kind: Literal["message", "reasoning", "tool_call", "tool_result", "plan", "status", "system", "unknown"]
    role: Literal["user", "assistant", "system", "tool"] | None
    status: Literal["in_progress", "completed", "failed"]
    content: list[Part]
    tool: NotRequired[Tool]
    exit_code: NotRequired[int | None]
    severity: NotRequired[str]


class OfItem(_Replayable):
    item: Item


class Delta(_Replayable):
    item_id: str
    native_item_id: NotRequired[str]
    delta: str


class AgentFacts(TypedDict):
    agent: str
    agentInfo: Json | None
    capabilities: Json | None
    context: str
    cwd: str
    pid: int


class Started(_Replayable):
    metadata: AgentFacts


class Stderr(TypedDict):
    """The first and last words of a process."""

    head: str | None
    tail: str | None
    truncated: bool
    total_lines: int


class Ended(TypedDict):
    reason: Literal["completed", "error", "terminated"]
    terminated_by: Literal["agent", "daemon"]
    message: NotRequired[str]
    exit_code: NotRequired[int | None]
    stderr: NotRequired[Stderr]


class ConfigChanged(_Replayable):
    mode: str | None
    model: str | None
    thought_level: str | None
    title: str | None
    options: list[Any] | None
    changed: list[str]
    meta: NotRequired[Json]


class Lost(TypedDict):
    reason: str
    tried: list[str]
    action: OnLost


class HistoryDiffers(TypedDict):
    known: int
    replayed: int
    missing: int


class Message(TypedDict):
    turnId: str
    message: str
    attachments: NotRequired[list[Any]]
    timeoutS: NotRequired[float]
    inLineS: NotRequired[float]
    requestTimeoutS: NotRequired[float]
    stallTimeoutS: NotRequired[float]
    acceptDenials: NotRequired[bool]
    permissionMode: NotRequired[str]
    onLost: NotRequired[OnLost]
    whenBusy: NotRequired[Literal["fail", "queue", "interrupt"]]


class TurnQueued(TypedDict):
    turn_id: str
    message: Message


class TurnFacts(TypedDict):
    context: str
    timeout_s: float | None
    permissions: str


class TurnStarted(TypedDict):
    phase: Literal["started"]
    turn_id: str
    metadata: TurnFacts


class TurnEnded(TypedDict):
    phase: Literal["ended"]
    turn_id: str
    metadata: TurnSummary


class TurnStalled(TypedDict):
    turn_id: str
    silent_s: float


class Asked(TypedDict):
    tool_call: Json
    item_id: str | None
    options: list[Json]
    expires_at: float | None


class PermissionRequested(TypedDict):
    permission_id: str
    action: str
    status: Literal["requested"]
    metadata: Asked


class DecidedBy(TypedDict):
    by: Literal["user", "policy", "timeout", "cancel", "agent"]
    option_id: NotRequired[str | None]
    rule: NotRequired[str | None]


class PermissionResolved(TypedDict):
    permission_id: str
    action: str
    status: Literal["accept", "accept_for_session", "reject"]
    metadata: DecidedBy


class Form(TypedDict):
    schema: Json | None
    mode: str
    url: str | None
    expires_at: float | None


class QuestionRequested(TypedDict):
    question_id: str
    prompt: str
    options: list[Any]
    status: Literal["requested"]
    metadata: Form


class QuestionResolved(TypedDict):
    question_id: str
    prompt: str
    status: Literal["answered", "rejected"]
    response: Any
    metadata: DecidedBy


class UsageUpdated(_Replayable):
    used: NotRequired[int]
    size: NotRequired[int]
    cost: NotRequired[Cost]
    usage: NotRequired[Json]
    source: Literal["usage_update", "prompt_result"]


class Commands(_Replayable):
    commands: list[Any]


class Failure(TypedDict):
    message: str
    code: NotRequired[str]
    details: NotRequired[Json]


class Unparsed(_Replayable):
    error: str
    location: str
    raw: Any


class Refused(_Replayable):
    """A request of the agent to its client that was answered with an error: it was never offered."""

    method: str


class AgentExited(TypedDict):
    exit_code: int | None
    how: str
    stderr: Stderr


class Nothing(TypedDict):
    """No more than the type."""


class RestoredLog(TypedDict):
    last: int
    problem: Literal["torn", "missing"] | None


class RefusedHome(TypedDict):
    number: int
    reason: str


class RestoredHome(TypedDict):
    number: int | None
    refused: list[RefusedHome]


class Restored(TypedDict):
    log: NotRequired[RestoredLog]
    home: NotRequired[RestoredHome]


class Kept(TypedDict):
    what: Literal["log", "home"]


class KeepFailed(Kept):
    message: str
    code: str
    hint: str | None


class Torn(TypedDict):
    file: str
    bytes: int


EVENTS: dict[str, Any] = {
    "session.started": Started,
    "session.ended": Ended,
    "session.config_changed": ConfigChanged,
    "session.context_lost": Lost,
    "session.history_differs": HistoryDiffers,
    "turn.queued": TurnQueued,
    "turn.started": TurnStarted,
    "turn.ended": TurnEnded,
    "turn.stalled": TurnStalled,
    "item.started": OfItem,
    "item.delta": Delta,
    "item.updated": OfItem,
    "item.completed": OfItem,
    "permission.requested": PermissionRequested,
    "permission.resolved": PermissionResolved,
    "question.requested": QuestionRequested,
    "question.resolved": QuestionResolved,
    "usage.updated": UsageUpdated,
    "commands.updated": Commands,
    "error": Failure,
    "agent.unparsed": Unparsed,
    "agent.request_refused": Refused,
    "sandbox.agent_started": Started,
    "sandbox.agent_exited": AgentExited,
    "sandbox.hibernated": Nothing,
    "sandbox.released": Nothing,
    "sandbox.terminated": Nothing,
    "sandbox.restored": Restored,
    "sandbox.keep_failed": KeepFailed,
    "sandbox.keep_resumed": Kept,
    "log.gap": _Span,
    "log.torn": Torn,
    "log.taken_over": _Span,
}
"""What is in the data of each event of a session."""


class SandboxCreated(TypedDict):
    provider: str
    labels: dict[str, str]


class Took(TypedDict):
    duration_ms: int


class Why(TypedDict):
    reason: str
    detail: NotRequired[str]


class SandboxFailed(TypedDict):
    action: NotRequired[str]
    error: Error


class ServiceReady(TypedDict):
    service: str
    duration_ms: NotRequired[int]


class ServiceFailed(TypedDict):
    service: str
    required: bool
    reason: str
    log: NotRequired[str]


SANDBOX_EVENTS: dict[str, Any] = {
    "sandbox.created": SandboxCreated,
    "sandbox.started": Took,
    "sandbox.restarted": Took,
    "sandbox.stopped": Why,
    "sandbox.paused": Why,
    "sandbox.resumed": Why,
    "sandbox.failed": SandboxFailed,
    "sandbox.deleted": Why,
    "service.ready": ServiceReady,
    "service.failed": ServiceFailed,
}
