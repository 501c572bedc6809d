"""The SDK's errors as ours, translated once, at the border. Decided by class; where Daytona has nothing but a text, by
the texts that stand here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import daytona as sdk

from agentctl import errors

FOREIGN = (sdk.DaytonaError,)
"""The SDK turns every other into it."""

TABLE: dict[type[Exception], type[errors.AgentctlError]] = {
    sdk.DaytonaAuthenticationError: errors.CredentialsRejected,
    sdk.DaytonaForbiddenError: errors.CredentialsRejected,
    sdk.DaytonaFileAccessDeniedError: errors.SandboxError,
    sdk.DaytonaGitAuthFailedError: errors.SandboxError,
    sdk.DaytonaNotFoundError: errors.NotFound,
    sdk.DaytonaGoneError: errors.NotFound,
    sdk.DaytonaSpotEvictedError: errors.SandboxNotFound,
    sdk.DaytonaConflictError: errors.Conflict,
    sdk.DaytonaBadRequestError: errors.UsageError,
    sdk.DaytonaInvalidFilePathError: errors.SandboxError,
    sdk.DaytonaLspServerNotInitializedError: errors.SandboxError,
    sdk.DaytonaUnprocessableEntityError: errors.UsageError,
    sdk.DaytonaGitRemoteRejectedError: errors.SandboxError,
    sdk.DaytonaRateLimitError: errors.ProviderUnavailable,
    sdk.DaytonaConnectionTimeoutError: errors.DeadlineExceeded,
    sdk.DaytonaTimeoutError: errors.DeadlineExceeded,
    sdk.DaytonaConnectionError: errors.ProviderUnavailable,
    sdk.DaytonaInternalServerError: errors.ProviderUnavailable,
    sdk.DaytonaFileReadFailedError: errors.SandboxError,
    sdk.DaytonaBadGatewayError: errors.ProviderUnavailable,
    sdk.DaytonaServiceUnavailableError: errors.ProviderUnavailable,
    sdk.DaytonaA11yUnavailableError: errors.SandboxError,
    sdk.DaytonaRecordingFfmpegNotFoundError: errors.SandboxError,
    sdk.DaytonaError: errors.SandboxError,
}
"""The nearest class of an error's own order decides."""

STATUS: dict[int, type[errors.AgentctlError]] = {
    401: errors.CredentialsRejected,
    403: errors.CredentialsRejected,
    404: errors.NotFound,
    408: errors.DeadlineExceeded,
    409: errors.Conflict,
    429: errors.ProviderUnavailable,
    504: errors.DeadlineExceeded,
}
"""For an error that the SDK gives no class of its own: those of files that are sent."""

TEXTS: tuple[tuple[re.Pattern[str], type[errors.AgentctlError]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), cls)
    for pattern, cls in (
        (r"total (disk|cpu|memory|gpu) limit exceeded", errors.QuotaExceeded),
        (r"volume quota exceeded", errors.QuotaExceeded),
        (r"(snapshot|sandbox) quota exceeded", errors.QuotaExceeded),
        (r"exceeds maximum allowed per sandbox", errors.UsageError),
        (r"snapshot .* not found", errors.ImageNotFound),
        (r"volume .* is not in a ready state", errors.SandboxError),
        (r"volume .* not found", errors.VolumeNotFound),
    )
)
"""What a 400 says that is none of the request's fault; quotas have no code of their own."""

_BY_TEXT = (sdk.DaytonaBadRequestError, sdk.DaytonaForbiddenError)
_HINTS: dict[type[errors.AgentctlError], str] = {
    errors.CredentialsRejected: "Make a key that may do this on Daytona's dashboard, and put it into DAYTONA_API_KEY.",
    errors.ImageNotFound: "Name one that is there: --image snapshot:NAME, or DAYTONA_SNAPSHOT.",
    errors.ProviderUnavailable: "Try again in a while; https://status.app.daytona.io tells whether it is down.",
}
LONGEST_PAUSE_S = 20.0
_SERVER_ERROR, _TOO_MANY = 500, 429
_PREFIX = re.compile(r"^(Fail(ed|ure) [^:]{3,60}: )+")


def translate(error: Exception, what: str) -> errors.AgentctlError:
    """Our error for a foreign one that came while doing ``what`` ("make the sandbox")."""
    cls = _class_of(error)
    said = reason(error)
    if isinstance(error, _BY_TEXT):
        cls = next((found for pattern, found in TEXTS if pattern.search(said)), cls)
    details: dict[str, Any] = {}
    if isinstance(error, sdk.DaytonaError) and error.status_code:
        details["status"] = error.status_code
    if (pause := pause_of(error)) is not None:
        details["retry_after_s"] = pause
    if isinstance(error, sdk.DaytonaTimeoutError) and error.sandbox_id:
        details["daytona"] = error.sandbox_id
    return cls(f"Daytona could not {what}: {said}", hint=_HINTS.get(cls), details=details)


def _class_of(error: Exception) -> type[errors.AgentctlError]:
    if isinstance(error.__cause__, FileNotFoundError):  # what a Dockerfile copies
        return errors.UsageError
    if type(error) is sdk.DaytonaError and error.status_code is not None:
        other = errors.ProviderUnavailable if error.status_code >= _SERVER_ERROR else errors.SandboxError
        return STATUS.get(error.status_code, other)
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def reason(error: Exception) -> str:
    """What Daytona said, without the SDK's own words before it."""
    said = _PREFIX.sub("", str(error)).strip()
    if said.startswith("<"):  # the page of a proxy
        said = ""
    return said or type(error).__name__


def pause_of(error: Exception) -> float | None:
    """How long it says to wait, in seconds; None for one that is no rate limit. ``Retry-After`` comes with the name
    of the limit behind it, and in any case of letters."""
    if not isinstance(error, sdk.DaytonaError) or error.status_code != _TOO_MANY:
        return None
    return _retry_after(error.headers) or 1.0


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    found = []
    for name, value in headers.items():
        if str(name).lower().startswith("retry-after"):
            try:
                found.append(float(value))
            except (TypeError, ValueError):
                continue  # a date: nobody asks Daytona's clock
    return max(found, default=None)


def is_unclear(error: Exception) -> bool:
    """Whether a create that failed so may have made something: there it is found by its name."""
    kinds = (
        sdk.DaytonaTimeoutError,
        sdk.DaytonaConnectionError,
        sdk.DaytonaConflictError,
        sdk.DaytonaInternalServerError,
        sdk.DaytonaBadGatewayError,
        sdk.DaytonaServiceUnavailableError,
    )
    gone = (sdk.DaytonaQueueTimeoutError,)
    return (isinstance(error, kinds) or _is_other_5xx(error)) and not isinstance(error, gone)


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a moment later: nothing was wrong with it."""
    kinds = (
        sdk.DaytonaInternalServerError,
        sdk.DaytonaBadGatewayError,
        sdk.DaytonaServiceUnavailableError,
        sdk.DaytonaConnectionError,
    )
    return (isinstance(error, kinds) or _is_other_5xx(error)) and not isinstance(error, sdk.DaytonaFileReadFailedError)


def _is_other_5xx(error: Exception) -> bool:
    return isinstance(error, sdk.DaytonaError) and error.status_code is not None and error.status_code >= _SERVER_ERROR
