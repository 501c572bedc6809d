"""What crosses the sandbox's border: routes, headers, the recipe as data, the boot message. Standard library only.

The host writes one ``Boot`` line to the supervisor's stdin and closes it; the supervisor answers one ``Ready`` line on
stdout when it listens, then speaks HTTP. Errors are ``application/problem+json``:
``{"type": "urn:sandbox-agent:error:<code>", "title", "status", "detail", "hint", "details"}``.

Routes (all under ``/v1``; a token is always required, as ``Authorization: Bearer`` or ``X-Agentctl-Token``)

==============================================  =======================================================================
``GET  /v1/health``                             200 ``{"status":"ok"|"leaving","sandbox_id","fencing","pid",
                                                "version","sessions": how many are open,"keep"?: Kept}``
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
                                                queue; 404 ``turn_not_found``
``POST /v1/sessions/{id}/permissions/{p}/reply``  ``{"reply":"once"|"always"|"reject","optionId"?}`` → 204; 409
                                                ``request_resolved``
``POST /v1/sessions/{id}/questions/{q}/reply``  ``{"answers":[[…]]}`` or ``{"content":{…}}`` → 204
``POST /v1/sessions/{id}/questions/{q}/reject``  204
``POST /v1/sessions/{id}/config``               any of ``{"mode","model","thoughtLevel","option":{"id","value"},
                                                "permissions"}`` → 200 Snapshot
``POST /v1/sessions/{id}/call``                 ``{"method","params"}`` → 200 ``{"result"}``: one raw ACP request
``POST /v1/sessions/{id}/terminate``            204, idempotent: stops the agent, keeps the log
``POST /v1/sessions/{id}/release``              204, idempotent: the same for a session that is to come back; it says
                                                ``sandbox.released``, and what was queued stays so
``POST /v1/shutdown``                           202: flush, stop every process of the sandbox, exit
``POST /v1/git/clone``                          Clone or ``{"clones": [Clone]}``, all of them or none → 200
                                                ``{"path","url","branch","commit","cloned"}`` or
                                                ``{"repositories": […]}``; 401, 404 ``repository_not_found``, 409
                                                ``already_exists``, 502 ``remote_unreachable``, ``git_failed``, 504;
                                                ``details.class`` says ``auth``, ``not_found``, ``exists``, ``network``
``DELETE /v1/git/clone``                        ``{"paths": […]}`` → 200 ``{"removed": […]}``: takes back what this
                                                supervisor cloned
``/v1/acp`` ``/v1/acp/{server_id}``             raw ACP: POST 202, GET SSE, DELETE 204
``/v1/processes…``                              run, create, list, get, stop, kill, input, logs, limits, and a terminal
                                                as a websocket: ``supervisor/exec/routes.py``
``GET  /v1/fs/entries``                         ``?path`` (default ``.``) → 200 ``[FsEntry]``
``GET  /v1/fs/file``                            ``?path`` → 200 the bytes; header ``X-Agentctl-Mode``
``PUT  /v1/fs/file``                            ``?path&mode?`` (octal), the bytes → 200 ``{"path","bytesWritten"}``
``DELETE /v1/fs/entry``                         ``?path&recursive?`` → 200 ``{"path"}``; 409 ``directory_not_empty``
``POST /v1/fs/mkdir``                           ``?path`` → 200 ``{"path"}``; parents are made, a directory may be there
``POST /v1/fs/move``                            ``{"from","to","overwrite"?}`` → 200 ``{"from","to"}``; 409
                                                ``already_exists``
``GET  /v1/fs/stat``                            ``?path`` → 200 FsStat, of what a link leads to
``POST /v1/fs/edit``                            ``{"path","old","new","all"?}`` → 200 ``{"path","replacements"}``
``POST /v1/fs/upload-batch``                    ``?path`` a directory, a tar (``application/x-tar``) → 200 ``{"paths",
                                                "truncated"}``: all of it is unpacked, or nothing
``GET  /v1/fs/archive``                         ``?path`` → 200 its tar
==============================================  =======================================================================

Shapes (camelCase on HTTP bodies, snake_case inside events, as the peers have it)

* SessionRequest: ``{"agent", "cwd", "env": {}, "mcpServers": [], "model"?, "agentMode"?, "thoughtLevel"?,
  "options"?: {}, "permissionMode": "ask"|"accept-edits"|"allow"|"deny", "policy"?: {}, "nativeSessionId"?,
  "createdAt"?: Unix s, "onLost"?, "minSequence"?: int, "interruptedTurnId"?, "stallTimeoutS"?, "startTimeoutS"?,
  "queued"?: [Message], "launch"?: Launch, "files"?: [{"path", "data": base64, "mode"?}], "preStart"?: [command],
  "logName"?}``:
  ``files`` go under HOME before every start of the agent, then ``preStart`` runs, once in a sandbox; ``queued`` are
  messages that were acknowledged by a supervisor that is gone, and that no agent has heard of: they run in this order.
  ``logName`` is the session's own directory below ``sessions/`` of the log root, where several share a sandbox;
  ``startTimeoutS`` bounds the whole start, session and all; without ``stallTimeoutS`` silence ends no turn
* Launch: ``{"recipe": Recipe, "agentEnv": {}, "secrets": [], "fencing": int}``: what Boot would have said, for a
  supervisor that was started without this session's agent
* Clone: ``{"url", "path"?, "cwd"?, "branch"?, "depth"?: int, "submodules"?: bool, "token"?,
  "ifMissing"?: bool, "timeoutS"?}``; a relative path is one below ``cwd``, else HOME; with ``ifMissing`` what is there
  is left as it is, ``cloned`` false
* Message: ``{"message": text, "turnId"?, "attachments"?: [ACP ContentBlock], "timeoutS"?, "inLineS"?,
  "requestTimeoutS"?, "stallTimeoutS"?, "acceptDenials"?, "permissionMode"?, "onLost"?,
  "whenBusy"?: "fail"|"queue"|"interrupt"}``; with ``inLineS`` it waits in line no
  longer, and what it waited there is part of ``timeoutS``;
  ``requestTimeoutS`` null waits for an answer as long as the turn may last; ``stallTimeoutS`` null is the session's, 0
  never; ``interrupt`` cancels the running turn and goes to the head of the queue
* Snapshot: ``{"sessionId", "agent", "agentMode", "permissionMode", "model", "thoughtLevel", "title",
  "nativeSessionId", "status": "starting"|"idle"|"busy"|"waiting"|"stalled"|"dead"|"failed", "ended",
  "eventCount", "turnId": running turn or null, "queue": [{"turn_id", "text"}],
  "lastTurn": {"turn_id", …TurnSummary}|null, "context", "agentInfo",
  "capabilities": ACP agentCapabilities, "configOptions": [], "modes", "requests": [pending event data], "usage",
  "cost", "cwd", "error"}``
* Kept (with ``Boot.keep``): ``{"logs": {session id: {"last","kept"}}, "home_at": Unix s|null, "home_bytes",
  "home_unreadable": paths that are not kept, "is_restoring", "error": error JSON|null}``; ``last`` and ``kept`` are
  sequences: of the log, and of its copy on the volume
* FsEntry: ``{"name", "path", "entryType": "file"|"directory", "size", "modified": RFC 3339, "mode": octal,
  "target"?}``; a link is a file with a ``target``. FsStat: the same without name and target
* Paths of ``/v1/fs``: absolute, or relative to HOME, or with ``?session=<id>`` to that living session's cwd; 400 for
  one that leaves it by ``..``, leaves ``Boot.root``, or has a NUL; 404 ``path_not_found`` names the path. They are
  bytes: ``%ff`` in a query and the escape ``\\udcff`` in a JSON body stand for a byte that is no UTF-8. An answer shows
  it as U+FFFD and adds ``rawPath``, the exact path in percent-encoding
"""

from __future__ import annotations

import json
from dataclasses import asdict, field, replace
from typing import Any

from agentctl.frozen import frozen

TOKEN_HEADER = "X-Agentctl-Token"  # noqa: S105 — the name of a header, no secret
ERROR_URN = "urn:sandbox-agent:error:"
SANDBOX_ENV = "AGENTCTL_SANDBOX_ID"
"""Every process of a sandbox carries this variable, so that a sweep finds what a killed supervisor left."""

SOCKET_DIRECTORY = "agentctl-"
"""How the name of a directory begins that holds a supervisor's socket and nothing else, because the path of a state
directory is too long for one: whoever of host and supervisor is the last to end removes it."""

MAX_LINE_BYTES = 64 * 1024 * 1024

Json = dict[str, Any]


@frozen
class PermissionSetup:
    """How a recipe makes its agent obey one ``--permissions`` value: a mode to set, environment, session ``_meta``.

    ``config_env`` holds JSON objects to be merged into an environment variable that carries JSON. ``also`` names the
    other modes in which the agent obeys just as well; where ``mode`` is set, no further mode is taken.
    """

    mode: str | None = None
    also: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    config_env: dict[str, Json] = field(default_factory=dict)


@frozen
class Recipe:
    """How to start, drive, judge and stop one agent: data, so that the supervisor needs no registry.

    ``argv`` has its placeholders resolved. ``files`` are written under HOME before the start where they are missing
    (path relative to HOME → text); ``fresh_files``, the user's logins, also over one that was put there earlier, when
    the user's own has changed since. ``client_meta`` becomes ``clientCapabilities._meta``, ``session_meta`` the
    ``_meta`` of session/new. ``permissions`` maps each enforceable ``--permissions`` value; a value not in it
    cannot be enforced. ``failure_signs`` name the detectors of ``supervisor/outcome.py`` that tell a failed turn
    from a normal ``end_turn``. ``on_reject`` is what the agent does after a rejected permission: ``continues``,
    ``ends_cancelled`` or ``ends_end_turn``. ``model_env`` is a variable that selects a model where no option does.
    ``skills`` is the directory under HOME in which it looks for ``<name>/SKILL.md``.
    ``stop_grace_s`` is how long the agent may take to leave after the end of its stdin, before TERM;
    ``cancel_grace_s`` how long to answer its prompt after session/cancel, before it is killed.
    ``load_min_age_s``: never load a session younger than that. ``replay_after_response``: the replay of
    session/load goes on after its response. ``notice_patterns``: regular expressions of agent text that is only the
    adapter's own notice. ``replay_skip``: regular expressions of replayed user text that no user wrote.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    fresh_files: dict[str, str] = field(default_factory=dict)
    client_meta: Json = field(default_factory=dict)
    session_meta: Json = field(default_factory=dict)
    auth_method: str | None = None
    permissions: dict[str, PermissionSetup] = field(default_factory=dict)
    on_reject: str = "continues"
    failure_signs: tuple[str, ...] = ()
    notice_patterns: tuple[str, ...] = ()
    replay_skip: tuple[str, ...] = ()
    model_env: str | None = None
    skills: str | None = None
    load_min_age_s: float = 0
    replay_after_response: bool = False
    start_timeout_s: float = 60
    stop_grace_s: float = 3
    cancel_grace_s: float = 5
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


@frozen
class Boot:
    """All that a supervisor is told at start. It travels on stdin, so that no secret is in argv or environment.

    ``listen`` is ``{"unix": path, "mode"?}`` or ``{"host", "port"}`` (port 0 picks one, told in Ready). ``log_root``
    holds one directory of log segments per session. ``agent_env`` is the whole base environment of agents (HOME,
    PATH, …); nothing else is inherited. ``secrets`` are values to redact from everything that is written. ``session``
    is ``{"id", "request": SessionRequest}``: it is opened at once, and the POST that asks for it gets how that went.
    ``root`` is the directory that ``/v1/fs`` must not leave; None is the whole file system. At ``expires_at`` (Unix
    s) the supervisor leaves, whatever runs. ``agent_uid`` and ``agent_gid`` are the user that agents and the user's
    processes run as, where the supervisor itself is root. ``keep`` is for a volume that cannot append or commits late:
    ``{"to": absolute directory on the mounted volume, this session's alone, "home": bool}``; log and HOME then live on
    the sandbox's own disk and are kept below ``to`` as whole files, HOME only with ``home`` (``supervisor/keep``).
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
    root: str | None = None
    expires_at: float | None = None
    agent_uid: int | None = None
    agent_gid: int | None = None
    keep: Json | None = None

    def launched(self, agent: str, launch: Json) -> Boot:
        """This Boot with the ``launch`` of a SessionRequest, as if it had been there from the start."""
        recipe = Recipe.from_json(launch["recipe"])
        kept = {name: value for name, value in self.agent_env.items() if name not in recipe.credentials}
        return replace(
            self,
            agent_env={**kept, **launch["agentEnv"]},
            recipes={**self.recipes, agent: recipe},
            secrets=(*self.secrets, *launch["secrets"]),
            fencing=max(self.fencing, launch["fencing"]),
        )

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Boot:
        data = json.loads(line)
        data["recipes"] = {k: Recipe.from_json(v) for k, v in data.get("recipes", {}).items()}
        data["secrets"] = tuple(data.get("secrets", ()))
        return cls(**data)


@frozen
class Ready:
    """The supervisor listens. ``pid``, ``start_ticks`` (clock ticks since boot) and ``boot_id`` are its identity."""

    pid: int
    start_ticks: int
    boot_id: str
    listen: Json

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Ready:
        return cls(**json.loads(line))
