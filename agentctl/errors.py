"""The error tree. Each class owns its code (wire and ``--json``), exit code, hint and whether a retry can help.

    AgentctlError                    1   unexpected
    ├── StateError                   1   the state directory or its database cannot be used
    │   ├── StateNotWritable         1
    │   ├── StateTooNew              1   written by a newer agentctl
    │   ├── DiskFull                 1
    │   └── StateUnavailable         8   the shared database does not answer
    ├── UsageError                   2   the request makes no sense; nothing was changed
    │   ├── Unsupported              2   this agent or provider cannot do that
    │   └── MediaTypeUnsupported · NotAcceptable · BodyTooLarge     of HTTP
    ├── DeadlineExceeded             3
    │   └── TurnStalled              3
    ├── NotFound                     4
    │   ├── SessionNotFound · AgentNotFound · ProviderNotFound · SandboxNotFound
    │   ├── VolumeNotFound · WorkspaceNotFound · TurnNotFound · RequestNotFound · PathNotFound · ProcessNotFound
    │   ├── RepositoryNotFound       4   a git repository, or a branch of it
    │   ├── ImageNotFound            4   of a container
    ├── PermissionDenied             5
    ├── CredentialsError             6
    │   ├── CredentialsMissing       6
    │   ├── CredentialsRejected      6
    │   └── TokenInvalid             6   of the supervisor's own door
    ├── AgentError                   7
    │   ├── AgentNotInstalled        7
    │   ├── AgentStartFailed         7
    │   ├── AgentExited              7
    │   ├── RateLimited              7   the model provider refused for now: rate or usage limit
    │   └── ProtocolError            7   the agent broke JSON-RPC or ACP
    ├── SandboxError                 8   the provider or the sandbox failed
    │   ├── ProviderUnavailable      8
    │   ├── SupervisorUnreachable    8
    │   ├── SandboxPaused            8   somebody froze it, and what ran in it
    │   ├── QuotaExceeded            8   of a cloud's account
    │   ├── GitFailed                8   git in the sandbox; RemoteUnreachable: its server does not answer
    │   ├── SpawnFailed              8   of a command in the sandbox: not found, or not a program
    │   ├── ServiceFailed            8   a required container beside the sandbox
    │   ├── ImageBuildFailed         8   a Dockerfile: the builder's own last lines are in the message
    │   └── InstallFailed            8
    ├── TurnUnfinished               9   refusal, max_tokens, max_turn_requests
    ├── Conflict                    10
    │   ├── SessionExists · SessionBusy · QueueFull · RequestResolved · LeaseLost · AlreadyExists
    │   ├── SessionElsewhere        10   its volume lies on another machine that shares the store
    │   ├── VolumeElsewhere         10   likewise
    │   ├── InUse                   10   a volume, a workspace or a HOME that sessions refer to
    │   ├── DirectoryNotEmpty
    │   └── SequenceExpired         10   the log no longer holds that range
    └── ContextLost                 11

An error crosses the supervisor's border as RFC 9457 problem+json whose ``type`` ends in ``code``;
``from_code`` builds the same class again on the other side.
"""

from __future__ import annotations

from typing import Any, ClassVar


class AgentctlError(Exception):
    """Base of every error that a user may see.

    ``message`` says what happened to what; ``hint`` is the command or step that helps;
    ``details`` is a JSON object for ``--json`` readers. Never put a secret into any of them.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.details = details or {}

    def to_json(self) -> dict[str, Any]:
        """``{"code", "message", "hint", "retryable", "details"}``, as in ``--json`` output and result lines."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "details": self.details,
        }


class StateError(AgentctlError):
    code = "state_error"


class StateNotWritable(StateError):
    code = "state_not_writable"


class StateTooNew(StateError):
    code = "state_too_new"


class DiskFull(StateError):
    code = "disk_full"
    http_status = 507


class StateUnavailable(StateError):
    code = "state_unavailable"
    exit_code = 8
    http_status = 503
    retryable = True


class UsageError(AgentctlError):
    code = "invalid_request"
    exit_code = 2
    http_status = 400


class Unsupported(UsageError):
    code = "unsupported"


class UnsupportedAgent(UsageError):
    """A sandbox was not told how to start the agent."""

    code = "unsupported_agent"


class MediaTypeUnsupported(UsageError):
    code = "unsupported_media_type"
    http_status = 415


class NotAcceptable(UsageError):
    code = "not_acceptable"
    http_status = 406


class BodyTooLarge(UsageError):
    code = "body_too_large"
    http_status = 413


class DeadlineExceeded(AgentctlError):
    code = "timeout"
    exit_code = 3
    http_status = 504
    retryable = True


class TurnStalled(DeadlineExceeded):
    code = "stalled"


class NotFound(AgentctlError):
    code = "not_found"
    exit_code = 4
    http_status = 404


class SessionNotFound(NotFound):
    code = "session_not_found"


class AgentNotFound(NotFound):
    code = "agent_not_found"


class ProviderNotFound(NotFound):
    code = "provider_not_found"


class SandboxNotFound(NotFound):
    code = "sandbox_not_found"


class VolumeNotFound(NotFound):
    code = "volume_not_found"


class WorkspaceNotFound(NotFound):
    code = "workspace_not_found"


class TurnNotFound(NotFound):
    code = "turn_not_found"


class RequestNotFound(NotFound):
    code = "request_not_found"


class RepositoryNotFound(NotFound):
    code = "repository_not_found"


class PathNotFound(NotFound):
    code = "path_not_found"


class ImageNotFound(NotFound):
    code = "image_not_found"


class ProcessNotFound(NotFound):
    code = "process_not_found"


class PermissionDenied(AgentctlError):
    code = "permission_denied"
    exit_code = 5
    http_status = 403


class CredentialsError(AgentctlError):
    code = "credentials_error"
    exit_code = 6
    http_status = 401


class CredentialsMissing(CredentialsError):
    code = "credentials_missing"


class CredentialsRejected(CredentialsError):
    code = "credentials_rejected"


class TokenInvalid(CredentialsError):
    code = "token_invalid"


class AgentError(AgentctlError):
    code = "agent_error"
    exit_code = 7
    http_status = 502


class AgentNotInstalled(AgentError):
    code = "agent_not_installed"
    http_status = 404


class AgentStartFailed(AgentError):
    code = "agent_start_failed"


class AgentExited(AgentError):
    code = "agent_process_exited"


class RateLimited(AgentError):
    code = "rate_limited"
    http_status = 429
    retryable = True


class ProtocolError(AgentError):
    code = "protocol_error"


class SandboxError(AgentctlError):
    code = "sandbox_error"
    exit_code = 8
    http_status = 502
    retryable = True


class ProviderUnavailable(SandboxError):
    code = "provider_unavailable"


class SupervisorUnreachable(SandboxError):
    code = "supervisor_unreachable"


class SandboxPaused(SandboxError):
    code = "sandbox_paused"


class QuotaExceeded(SandboxError):
    code = "quota_exceeded"
    http_status = 429
    retryable = False
    default_hint = "What nobody uses any more may hold it: agentctl cleanup-orphans"


class SpawnFailed(SandboxError):
    """``details.exitCode`` is what a shell would exit with: 127 not found, 126 not executable."""

    code = "spawn_failed"
    retryable = False


class ServiceFailed(SandboxError):
    """A required service was not brought up. ``details`` has its name (``service``) and the end of its ``log``."""

    code = "service_failed"
    retryable = False


class InstallFailed(SandboxError):
    code = "install_failed"


class ImageBuildFailed(SandboxError):
    code = "image_build_failed"
    retryable = False


class GitFailed(SandboxError):
    code = "git_failed"
    retryable = False


class RemoteUnreachable(GitFailed):
    code = "remote_unreachable"
    retryable = True


class TurnUnfinished(AgentctlError):
    code = "turn_unfinished"
    exit_code = 9


class Conflict(AgentctlError):
    code = "conflict"
    exit_code = 10
    http_status = 409


class SessionExists(Conflict):
    code = "session_already_exists"


class SessionBusy(Conflict):
    code = "session_busy"
    retryable = True


class QueueFull(SessionBusy):
    code = "queue_full"


class AlreadyExists(Conflict):
    """A file, a process id, a repository: something is there already under that name."""

    code = "already_exists"


class DirectoryNotEmpty(Conflict):
    code = "directory_not_empty"


class RequestResolved(Conflict):
    code = "request_resolved"


class SessionElsewhere(Conflict):
    code = "session_elsewhere"


class VolumeElsewhere(Conflict):
    code = "volume_elsewhere"


class InUse(Conflict):
    """``details`` are ``{"sessions": [name], "sandboxes": [name]}``."""

    code = "in_use"


class LeaseLost(Conflict):
    code = "lease_lost"


class SequenceExpired(Conflict):
    code = "sequence_expired"
    http_status = 410


class ContextLost(AgentctlError):
    code = "context_lost"
    exit_code = 11
    http_status = 409


def _walk(cls: type[AgentctlError]) -> list[type[AgentctlError]]:
    return [cls, *(found for sub in cls.__subclasses__() for found in _walk(sub))]


def from_code(
    code: str, message: str, *, hint: str | None = None, details: dict[str, Any] | None = None
) -> AgentctlError:
    """Rebuild the error that carries ``code``; an unknown code gives a plain ``AgentctlError``."""
    cls = next((c for c in _walk(AgentctlError) if c.code == code), AgentctlError)
    return cls(message, hint=hint, details=details)
