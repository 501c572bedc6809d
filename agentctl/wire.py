"""What crosses the sandbox's border: routes, headers, the recipe as data, the boot message. Standard library only.

The host writes one ``Boot`` line to the supervisor's stdin and closes it; the supervisor answers one ``Ready`` line on
stdout when it listens, then speaks HTTP. Errors are ``application/problem+json``:
``{"type": "urn:sandbox-agent:error:<code>", "title", "status", "detail", "hint", "details"}``.

Routes (all under ``/v1``; a token is always required, as ``Authorization: Bearer`` or ``X-Agentctl-Token``)

==============================================  =======================================================================
``GET  /v1/health``                             200 ``{"status":"ok","sandbox_id","fencing","pid","version"}``
``GET  /v1/sessions``                           200 ``{"sessions":[Snapshot]}``
``POST /v1/sessions/{id}``                      SessionRequest → 200 Snapshot; 409 ``session_already_exists``; the agent
                                                has answered initialize and session/new, resume or load
``GET  /v1/sessions/{id}``                      200 Snapshot
``POST /v1/sessions/{id}/messages``             Message → 202 ``{"turn_id","status":"running"|"queued"|"ended",
                                                "duplicate","position"}``; 409 ``session_busy``, ``queue_full``
``POST /v1/sessions/{id}/messages/stream``      Message → 200 SSE that ends after this turn's ``turn.ended``
``GET  /v1/sessions/{id}/events``               ``?offset&limit&include_raw`` → ``{"events","hasMore"}``
``GET  /v1/sessions/{id}/events/sse``           ``?offset&include_raw`` (or ``Last-Event-ID``) → SSE ``id: <sequence>``
``POST /v1/sessions/{id}/cancel``               ``{"kill"?: bool, "turnId"?}`` → 202 ``{"turn_id","cancelled"}``: ends
                                                the running turn as ``cancelled``, or takes a queued one out of the
                                                queue
``POST /v1/sessions/{id}/permissions/{p}/reply``  ``{"reply":"once"|"always"|"reject","optionId"?}`` → 204; 409
                                                ``request_resolved``
``POST /v1/sessions/{id}/questions/{q}/reply``  ``{"answers":[[…]]}`` or ``{"content":{…}}`` → 204
``POST /v1/sessions/{id}/questions/{q}/reject``  204
``POST /v1/sessions/{id}/config``               any of ``{"mode","model","thoughtLevel","option":{"id","value"},
                                                "permissions"}`` → 200 Snapshot
``POST /v1/sessions/{id}/call``                 ``{"method","params"}`` → 200 ``{"result"}``: one raw ACP request
``POST /v1/sessions/{id}/terminate``            204, idempotent: stops the agent, keeps the log
``POST /v1/shutdown``                           202: flush, stop every process of the sandbox, exit
``/v1/acp`` ``/v1/acp/{server_id}``             raw ACP: POST 202, GET SSE, DELETE 204
==============================================  =======================================================================

Shapes (camelCase on HTTP bodies, snake_case inside events, as the peers have it)

* SessionRequest: ``{"agent", "cwd", "env": {}, "mcpServers": [], "model"?, "agentMode"?, "thoughtLevel"?,
  "options"?: {}, "permissionMode": "ask"|"accept-edits"|"allow"|"deny", "policy"?: {}, "nativeSessionId"?,
  "createdAt"?: Unix s, "onLost"?, "minSequence"?: int, "interruptedTurnId"?, "stallTimeoutS"?, "startTimeoutS"?,
  "queued"?: [Message]}``; ``queued`` are messages that were acknowledged by a supervisor that is gone, and that no
  agent has heard of: they run in this order
* Message: ``{"message": text, "turnId"?, "attachments"?: [ACP ContentBlock], "timeoutS"?, "requestTimeoutS"?,
  "stallTimeoutS"?, "acceptDenials"?, "permissionMode"?, "onLost"?, "whenBusy"?: "fail"|"queue"|"interrupt"}``;
  ``requestTimeoutS`` null waits for an answer as long as the turn may last; ``interrupt`` cancels the running turn and
  goes to the head of the queue
* Snapshot: ``{"sessionId", "agent", "agentMode", "permissionMode", "model", "thoughtLevel", "title",
  "nativeSessionId", "status": "starting"|"idle"|"busy"|"waiting"|"stalled"|"dead"|"failed", "ended",
  "eventCount", "turnId": running turn or null, "queue": [{"turn_id", "text"}],
  "lastTurn": {"turn_id", …TurnSummary}|null, "context", "agentInfo",
  "capabilities": ACP agentCapabilities, "configOptions": [], "modes", "requests": [pending event data], "usage",
  "cost", "cwd", "error"}``
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

PROTOCOL = 1
TOKEN_HEADER = "X-Agentctl-Token"  # noqa: S105 — the name of a header, no secret
ERROR_URN = "urn:sandbox-agent:error:"
SANDBOX_ENV = "AGENTCTL_SANDBOX_ID"
"""Every process of a sandbox carries this variable, so that a sweep finds what a killed supervisor left."""

MAX_LINE_BYTES = 64 * 1024 * 1024

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PermissionSetup:
    """How a recipe makes its agent obey one ``--permissions`` value: a mode to set, environment, session ``_meta``.

    ``config_env`` holds JSON objects to be merged into an environment variable that carries JSON. ``also`` names the
    other modes in which the agent obeys just as well; where ``mode`` is set, no further mode is taken.
    """

    mode: str | None = None
    also: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    config_env: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to start, drive, judge and stop one agent: data, so that the supervisor needs no registry.

    ``argv`` has its placeholders resolved. ``files`` are written under HOME before the start where they are missing
    (path relative to HOME → text). ``client_meta`` becomes ``clientCapabilities._meta``, ``session_meta`` the
    ``_meta`` of session/new. ``permissions`` maps each enforceable ``--permissions`` value; a value not in it
    cannot be enforced. ``failure_signs`` name the detectors of ``supervisor/outcome.py`` that tell a failed turn
    from a normal ``end_turn``. ``on_reject`` is what the agent does after a rejected permission: ``continues``,
    ``ends_cancelled`` or ``ends_end_turn``. ``model_env`` is a variable that selects a model where no option does.
    ``stop_grace_s`` is how long the agent may take to leave after the end of its stdin, before TERM.
    ``load_min_age_s``: never load a session younger than that. ``replay_after_response``: the replay of
    session/load goes on after its response. ``notice_patterns``: regular expressions of agent text that is only the
    adapter's own notice. ``replay_skip``: regular expressions of replayed user text that no user wrote.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    client_meta: Json = field(default_factory=dict)
    session_meta: Json = field(default_factory=dict)
    auth_method: str | None = None
    permissions: dict[str, PermissionSetup] = field(default_factory=dict)
    on_reject: str = "continues"
    failure_signs: tuple[str, ...] = ()
    notice_patterns: tuple[str, ...] = ()
    replay_skip: tuple[str, ...] = ()
    model_env: str | None = None
    load_min_age_s: float = 0
    replay_after_response: bool = False
    start_timeout_s: float = 60
    stop_grace_s: float = 3
    credentials: tuple[str, ...] = ()

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Json) -> Recipe:
        known: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in cls.__dataclass_fields__
        }
        known["permissions"] = {
            value: PermissionSetup(**{**setup, "also": tuple(setup.get("also", ()))})
            for value, setup in data.get("permissions", {}).items()
        }
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """All that a supervisor is told at start. It travels on stdin, so that no secret is in argv or environment.

    ``listen`` is ``{"unix": path}`` or ``{"host", "port"}`` (port 0 picks one, told in Ready). ``log_root`` holds one
    directory of log segments per session. ``agent_env`` is the whole base environment of agents (HOME, PATH, …);
    nothing else is inherited. ``secrets`` are values to redact from everything that is written. ``session`` is
    ``{"id", "request": SessionRequest}``: it is opened at once, and the POST that asks for it gets how that went.
    """

    sandbox_id: str
    token: str
    listen: Json
    log_root: str
    home: str
    tmp: str
    agent_env: dict[str, str] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    idle_timeout_s: float | None = 180
    fencing: int = 0
    cgroup: str | None = None
    session: Json | None = None

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Boot:
        data = json.loads(line)
        data["recipes"] = {k: Recipe.from_json(v) for k, v in data.get("recipes", {}).items()}
        data["secrets"] = tuple(data.get("secrets", ()))
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The supervisor listens. ``pid``, ``start_ticks`` (clock ticks since boot) and ``boot_id`` are its identity."""

    pid: int
    start_ticks: int
    boot_id: str
    listen: Json
    protocol: int = PROTOCOL

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Ready:
        return cls(**json.loads(line))
