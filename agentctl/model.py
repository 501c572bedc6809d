"""The glossary: one word per thing, and the dataclasses that carry them between layers.

==============  =====================================================================================================
agent           a coding agent program that speaks ACP over stdio; its launch recipe is a data file in ``agents/``
user agent      a named identity that a user makes from a built-in agent; ``--agent`` takes either
provider        a place that can run a sandbox: ``unix_local``, ``docker``, ``daytona``, ``modal``
sandbox         disposable compute; its identity is the provider's opaque handle
supervisor      our process inside the sandbox: starts agents, owns turns, keeps the durable log, serves HTTP
volume          durable storage of one provider; holds homes, workspaces and session logs
workspace       a named HOME on a volume, shared by the sessions that name it
session         one conversation: agent + volume + (at most one live) sandbox + log
turn            one prompt and all that follows until it ends; its id is chosen by the caller (idempotency key)
event           one numbered entry of a session's log, in the universal schema (``events.py``)
request         a permission or a question that waits for a person's answer
lease           who may drive a session's sandbox now
origin          label that says which installation or environment owns a remote resource
==============  =====================================================================================================

Times are Unix seconds as float; durations end in ``_s`` or ``_ms``. All fields are JSON values, so that a store can
keep a dataclass as a row without knowing what it means.
"""

from __future__ import annotations

import json
from dataclasses import asdict, field
from typing import Any, Literal

from agentctl.compute import Compute
from agentctl.frozen import frozen

Permissions = Literal["ask", "accept-edits", "allow", "deny"]
PERMISSIONS: tuple[Permissions, ...] = ("ask", "accept-edits", "allow", "deny")

OnLost = Literal["fail", "new", "replay"]
ON_LOST: tuple[OnLost, ...] = ("fail", "new", "replay")

OnInterrupt = Literal["fail", "continue", "retry"]
ON_INTERRUPT: tuple[OnInterrupt, ...] = ("fail", "continue", "retry")

ProjectMode = Literal["mount", "copy", "worktree"]
PROJECT_MODES: tuple[ProjectMode, ...] = ("mount", "copy", "worktree")

Outcome = Literal["completed", "refused", "limit", "cancelled", "denied", "failed", "timeout", "interrupted"]

Context = Literal["new", "live", "restored", "replayed", "lost"]
"""How a turn's agent came by the conversation so far: ``new`` first turn of a new session, ``live`` the same agent
process went on, ``restored`` by the agent's own resume or load, ``replayed`` by our transcript, ``lost`` not at all."""

SessionStatus = Literal["new", "starting", "idle", "busy", "waiting", "stalled", "paused", "hibernated", "dead"]
"""``new`` never provisioned; ``waiting`` a turn waits for an answer to a request; ``paused`` somebody froze its
sandbox, the next message lets it go on; ``hibernated`` no live sandbox, the next message brings one; ``dead`` the
supervisor vanished without a word."""

WITHOUT_AGENT: tuple[SessionStatus, ...] = ("new", "hibernated")
"""What a session's row says while no agent is to be expected, even where its sandbox lives."""

SandboxStatus = Literal["creating", "running", "paused", "stopped", "failed"]
"""``creating`` accepted, and not yet up; ``stopped`` the next command that needs it brings it up again."""


@frozen
class SessionSpec:
    """What the user asked for at create. Its hash is what ``--if-not-exists`` compares.

    ``mcp_servers`` are ACP ``McpServer`` objects. ``env`` holds only what the user gave by ``--env``; the contents of
    ``env_files`` are read again at each provision and never stored. ``policy`` is the parsed policy file
    (``acp/permissions.py``). Names of the user's environment variables that hold credentials live in recipes.
    A turn in which the agent says nothing for ``stall_timeout_s`` is ended; ``start_timeout_s`` overrides the recipe's;
    a supervisor that is idle for ``idle_timeout_s`` leaves. None of the three means never (start: the recipe's).
    ``root`` confines the file API. ``secrets`` say where each value comes from, never what it is:
    ``{"name", "from": "env"|"file"|"stored"|"asked", "path"?}``. ``skills`` are ``{"source", "ref"?, "name"?}``,
    ``files`` are ``{"target", "source"}`` or ``{"target", "text"}``, written at the start of a new sandbox, before the
    shell commands of ``pre_start``. ``clones`` are repositories for a new session, ``{"url", "path", "branch", "depth",
    "submodules", "token_env"}``: the name of the variable that holds the token, never the token. ``user_agent`` is the
    user's own agent that this was made from; ``agent`` is then the built-in one behind it. ``sandbox`` is the id of the
    sandbox of its own that the session lives in; it shares that one's provider, volume and HOME. ``image`` is what a
    container is made from, ``compute`` the rest of its machine. ``copies`` are ``{"source", "target", "exclude"}``:
    files of the host's, copied into a new session's sandbox once. ``project`` is ``{"path", "mode", "target",
    "exclude"?}``: a directory of the host's to work on, and where the sandbox has it (None: where the host has it).
    """

    agent: str
    agent_command: tuple[str, ...] | None = None
    provider: str = "unix_local"
    volume: str = "default"
    workspace: str | None = None
    cwd: str | None = None
    model: str | None = None
    mode: str | None = None
    thought_level: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    env_files: tuple[str, ...] = ()
    mcp_servers: tuple[dict[str, Any], ...] = ()
    permissions: Permissions = "ask"
    policy: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    origin: str = ""
    timeout_s: float | None = None
    stall_timeout_s: float | None = 1800
    start_timeout_s: float | None = None
    idle_timeout_s: float | None = 180
    on_lost: OnLost = "fail"
    on_interrupt: OnInterrupt = "fail"
    root: str | None = None
    secrets: tuple[dict[str, Any], ...] = ()
    skills: tuple[dict[str, Any], ...] = ()
    files: tuple[dict[str, Any], ...] = ()
    pre_start: tuple[str, ...] = ()
    system_prompt: str | None = None
    clones: tuple[dict[str, Any], ...] = ()
    user_agent: str | None = None
    sandbox: str | None = None
    image: str | None = None
    compute: Compute = field(default_factory=Compute)
    copies: tuple[dict[str, Any], ...] = ()
    project: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SessionSpec:
        known: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k in cls.__dataclass_fields__
        }
        return cls(**{**known, "compute": Compute.from_json(known.get("compute") or {})})

    def hash(self) -> str:
        """SHA-256 over the canonical JSON of everything but labels: the same spec names the same session."""
        import hashlib

        data = {k: v for k, v in self.to_json().items() if k != "labels"}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


@frozen
class Session:
    """A row of the store. ``spec`` is as created; ``model``, ``mode``, … in it follow later ``set-*`` commands.

    ``place`` is where its volume lies, when only one of the machines that share the store reaches it; else ``""``.
    ``used_at`` is when somebody last sent it a message, changed it or did something inside; 0 for never.
    """

    id: str
    name: str
    spec: SessionSpec
    status: SessionStatus
    created_at: float
    updated_at: float
    title: str | None = None
    native_session_id: str | None = None
    sandbox_id: str | None = None
    last_sequence: int = 0
    usage: dict[str, Any] | None = None
    cost: dict[str, Any] | None = None
    last_turn_id: str | None = None
    last_outcome: Outcome | None = None
    ephemeral: bool = False
    place: str = ""
    used_at: float = 0.0


@frozen
class UserAgent:
    """A named identity that a user made from the built-in agent ``base``. ``settings`` are the fields of
    ``SessionSpec`` that it gives to a session which does not set them itself."""

    name: str
    base: str
    settings: dict[str, Any]
    created_at: float
    updated_at: float


@frozen
class Sandbox:
    """``handle`` is the provider's own JSON object; nobody but the provider reads it, and it is empty while there is
    none.

    The rest is of a sandbox of its own, which has a ``name`` and no session: ``spec`` as it was created, with no agent,
    ``ttl_s`` after which it is deleted, and ``error`` of the last attempt to bring it up. ``place`` is as in
    ``Session``. A session's sandbox has none of them.
    """

    id: str
    session_id: str | None
    provider: str
    handle: dict[str, Any]
    labels: dict[str, str]
    created_at: float
    fencing: int = 0
    name: str | None = None
    spec: SessionSpec | None = None
    status: SandboxStatus = "running"
    updated_at: float = 0.0
    ttl_s: float | None = None
    error: dict[str, Any] | None = None
    place: str = ""

    @property
    def expires_at(self) -> float | None:
        return None if self.ttl_s is None else self.created_at + self.ttl_s


@frozen
class Turn:
    id: str
    session_id: str
    status: Literal["queued", "running", "waiting", "ended"]
    created_at: float
    first_sequence: int | None = None
    last_sequence: int | None = None
    outcome: Outcome | None = None
    stop_reason: str | None = None
    ended_at: float | None = None
    result: dict[str, Any] | None = None


@frozen
class Request:
    """A permission or a question. ``data`` is the ``data`` of its ``*.requested`` event."""

    id: str
    session_id: str
    turn_id: str | None
    kind: Literal["permission", "question"]
    status: Literal["pending", "resolved"]
    sequence: int
    created_at: float
    data: dict[str, Any]
    resolution: dict[str, Any] | None = None


@frozen
class Volume:
    """``place`` is as in ``Session``: each place has its own volumes, so the same name may be there twice. ``unasked``:
    made because something needed one, not because somebody wanted it."""

    name: str
    provider: str
    handle: dict[str, Any]
    created_at: float
    place: str = ""
    unasked: bool = False


@frozen
class Lease:
    """Held while a session's sandbox is being made or unmade. ``fencing`` rises with every acquisition."""

    session_id: str
    holder: str
    fencing: int
    expires_at: float
