"""The SDK's errors as ours, translated once, at the border.

By type; only what ``ResourceExhaustedError`` means has to be read from its text: a rate limit passes, a quota does not.
"""

from __future__ import annotations

from modal import exception as sdk

from agentctl import errors

FOREIGN = (sdk.Error, sdk.ModuleNotMountable, OSError, TimeoutError)
"""All that a call of the SDK raises; ``OSError`` where a file of a volume is missing or a stream broke."""

TABLE: dict[type[BaseException], type[errors.AgentctlError]] = {
    sdk.AuthError: errors.CredentialsRejected,
    sdk.PermissionDeniedError: errors.CredentialsRejected,
    sdk.NotFoundError: errors.NotFound,
    sdk.AlreadyExistsError: errors.AlreadyExists,
    sdk.ConflictError: errors.Conflict,
    sdk.InvalidError: errors.UsageError,
    sdk.ResourceExhaustedError: errors.QuotaExceeded,
    sdk.RequestSizeError: errors.UsageError,
    sdk.ModuleNotMountable: errors.UsageError,
    sdk.SerializationError: errors.UsageError,
    sdk.ConnectionError: errors.ProviderUnavailable,
    sdk.ServiceError: errors.ProviderUnavailable,
    sdk.InternalError: errors.ProviderUnavailable,
    sdk.InternalFailure: errors.ProviderUnavailable,
    sdk.VersionError: errors.ProviderUnavailable,
    sdk.UnimplementedError: errors.ProviderUnavailable,
    sdk.ClientClosed: errors.ProviderUnavailable,
    sdk.TimeoutError: errors.DeadlineExceeded,
    sdk.SandboxTerminatedError: errors.SandboxNotFound,
    sdk.ImageBuildError: errors.InstallFailed,
    sdk.SandboxFilesystemNotFoundError: errors.NotFound,
    sdk.SandboxFilesystemPathAlreadyExistsError: errors.AlreadyExists,
    sdk.SandboxFilesystemDirectoryNotEmptyError: errors.DirectoryNotEmpty,
    sdk.SandboxFilesystemFileTooLargeError: errors.UsageError,
    sdk.SandboxFilesystemError: errors.SandboxError,
    sdk.Error: errors.SandboxError,
    FileNotFoundError: errors.NotFound,
    FileExistsError: errors.AlreadyExists,
    TimeoutError: errors.DeadlineExceeded,
    OSError: errors.ProviderUnavailable,
}
"""The nearest class of an error's own order decides."""

_LOGIN = "Set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET to a token of your workspace (`modal token new` makes one)."
_HINTS: dict[type[errors.AgentctlError], str] = {
    errors.CredentialsRejected: _LOGIN,
    errors.QuotaExceeded: "See what runs with `agentctl sandboxes list`; what nobody uses any more is ended by "
    "`agentctl cleanup-orphans --provider modal`.",
    errors.ProviderUnavailable: "Try again; https://status.modal.com tells whether Modal has a problem.",
    errors.DeadlineExceeded: "Try again; https://status.modal.com tells whether Modal has a problem.",
}


def is_rate_limit(error: BaseException) -> bool:
    """Whether it passes by itself: "Sandbox creation rate limit (5/s) exceeded"."""
    return isinstance(error, sdk.ResourceExhaustedError) and "rate" in str(error).lower()


def translate(error: BaseException, what: str) -> errors.AgentctlError:
    """Our error for a foreign one that came while doing ``what`` ("make the sandbox")."""
    cls = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    if is_rate_limit(error):
        cls = errors.ProviderUnavailable
    said = str(error).strip() or ("no answer in time" if cls is errors.DeadlineExceeded else type(error).__name__)
    return cls(f"Modal could not {what}: {said}", hint=_HINTS.get(cls), details={"modal": type(error).__name__})


def missing_token() -> errors.CredentialsMissing:
    return errors.CredentialsMissing("There is no token for Modal.", hint=_LOGIN)
