"""What a caller asks for at create, read strictly from the body of ``POST /v1/sessions/{id}`` (``wire.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from agentctl import errors, ids
from agentctl.acp.policy import check_policy

if TYPE_CHECKING:
    from agentctl.model import OnLost

Json = dict[str, Any]


@dataclass(eq=False, repr=False, kw_only=True)  # what it has not need not be compiled at every start
class SessionRequest:
    """Mutable: ``set-mode`` and its like are kept here, so that a restarted agent is set up the same way. ``queued``
    are Messages of ``wire.py``."""

    cwd: str
    permissions: str = "ask"
    policy: Json = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    mcp_servers: list[Json] = field(default_factory=list)
    model: str | None = None
    mode: str | None = None
    thought_level: str | None = None
    options: Json = field(default_factory=dict)
    native_session_id: str | None = None
    created_at: float | None = None
    on_lost: OnLost = "fail"
    min_sequence: int = 0
    interrupted_turn_id: str | None = None
    stall_timeout_s: float | None = None
    start_timeout_s: float | None = None
    queued: list[Json] = field(default_factory=list)
    files: list[Json] = field(default_factory=list)
    pre_start: list[str] = field(default_factory=list)
    log_name: str | None = None

    @classmethod
    def from_json(cls, body: Json) -> SessionRequest:
        """Raise ``UsageError`` naming the field that is missing or of the wrong type."""
        values = {
            ours: _typed(body, theirs, kind) for theirs, (ours, kind) in _FIELDS.items() if body.get(theirs) is not None
        }
        if not str(values.get("cwd", "")).startswith("/"):
            raise errors.UsageError("cwd must be an absolute path.")
        if not all(isinstance(value, str) for value in values.get("env", {}).values()):
            raise errors.UsageError("env must map names to texts.")
        for name in ("stallTimeoutS", "startTimeoutS"):
            if values.get(_FIELDS[name][0], 1) <= 0:
                raise errors.UsageError(f"{name} must be a number of seconds above 0, or null.")
        if not all(isinstance(file, dict) and isinstance(file.get("data"), str) for file in values.get("files", ())):
            raise errors.UsageError('files are objects with "path" and "data".')
        if not all(isinstance(command, str) for command in values.get("pre_start", ())):
            raise errors.UsageError("preStart is a list of shell commands.")
        if "log_name" in values and not ids.is_name(values["log_name"]):
            raise errors.UsageError("logName is the name of a directory.")
        on_lost_of(values.get("on_lost"))
        if "policy" in values:
            values["policy"] = check_policy(values["policy"], "policy")
        return cls(**values)


def on_lost_of(word: str | None) -> OnLost | None:
    """Raise ``UsageError`` for a word that is not one of them."""
    if word in (None, "fail", "new", "replay"):
        return cast("OnLost | None", word)
    raise errors.UsageError(f"onLost is one of fail, new, replay, not {word!r}.")


_FIELDS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "cwd": ("cwd", str),
    "permissionMode": ("permissions", str),
    "policy": ("policy", dict),
    "env": ("env", dict),
    "mcpServers": ("mcp_servers", list),
    "model": ("model", str),
    "agentMode": ("mode", str),
    "thoughtLevel": ("thought_level", str),
    "options": ("options", dict),
    "nativeSessionId": ("native_session_id", str),
    "createdAt": ("created_at", (int, float)),
    "onLost": ("on_lost", str),
    "minSequence": ("min_sequence", int),
    "interruptedTurnId": ("interrupted_turn_id", str),
    "stallTimeoutS": ("stall_timeout_s", (int, float)),
    "startTimeoutS": ("start_timeout_s", (int, float)),
    "queued": ("queued", list),
    "files": ("files", list),
    "preStart": ("pre_start", list),
    "logName": ("log_name", str),
}


def _typed(body: Json, key: str, kind: type | tuple[type, ...]) -> Any:
    value = body[key]
    if not isinstance(value, kind):
        raise errors.UsageError(f"{key} has the wrong type: {type(value).__name__}.")
    return value
