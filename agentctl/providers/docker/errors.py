"""The SDK's errors as ours, translated once, at the border. Decided by type and status, never by text."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from docker import errors as sdk
from requests.exceptions import RequestException, Timeout

from agentctl import errors

FOREIGN = (sdk.DockerException, RequestException)

TABLE: dict[type[Exception], type[errors.AgentctlError]] = {
    sdk.ImageNotFound: errors.ImageNotFound,
    sdk.NotFound: errors.NotFound,
    sdk.APIError: errors.SandboxError,
    sdk.InvalidVersion: errors.ProviderUnavailable,
    sdk.InvalidRepository: errors.UsageError,
    sdk.InvalidConfigFile: errors.ProviderUnavailable,
    sdk.InvalidArgument: errors.UsageError,
    sdk.DeprecatedMethod: errors.SandboxError,
    sdk.TLSParameterError: errors.ProviderUnavailable,
    sdk.NullResource: errors.SandboxError,
    sdk.ContainerError: errors.SandboxError,
    sdk.StreamParseError: errors.SandboxError,
    sdk.BuildError: errors.SandboxError,
    sdk.ImageLoadError: errors.SandboxError,
    sdk.MissingContextParameter: errors.ProviderUnavailable,
    sdk.ContextAlreadyExists: errors.ProviderUnavailable,
    sdk.ContextNotFound: errors.ProviderUnavailable,
    sdk.ContextException: errors.ProviderUnavailable,
    sdk.DockerException: errors.ProviderUnavailable,
    Timeout: errors.ProviderUnavailable,
    RequestException: errors.ProviderUnavailable,
}
"""The nearest class of an error's own order decides."""

_CONFLICT = 409
_START_IT = (
    "Start it (`systemctl start docker`, or Docker Desktop), or name another by DOCKER_HOST. "
    "To use one, a user has to be root or in the group docker."
)
_CHECK_IT = "Its certificate has to be vouched for by the ca.pem in the directory that DOCKER_CERT_PATH names."


def translate(error: Exception, what: str, url: str) -> errors.AgentctlError:
    """Our error for a foreign one that came while doing ``what`` ("make the container")."""
    cls = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    if isinstance(error, sdk.APIError) and error.status_code == _CONFLICT:
        cls = errors.Conflict
    if cls is errors.ProviderUnavailable:
        how = "did not answer in time" if _timed_out(error) else "cannot be used"
        return cls(f"The Docker engine at {url} {how}: {_reason(error)}", hint=_hint(error), details={"engine": url})
    return cls(f"Docker could not {what}: {_reason(error)}", details={"engine": url})


def _hint(error: BaseException) -> str:
    return _CHECK_IT if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)) else _START_IT


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _timed_out(error: BaseException | None) -> bool:
    return any(isinstance(cause, Timeout | TimeoutError) for cause in _causes(error))


def _reason(error: Exception) -> str:
    if isinstance(error, sdk.APIError) and error.explanation:
        said = error.explanation
        return (said.decode(errors="replace") if isinstance(said, bytes) else str(said)).strip()
    root: BaseException = error
    while root.__cause__ or root.__context__:
        root = root.__cause__ or root.__context__ or root
    return str(getattr(root, "strerror", None) or root or type(error).__name__)


def translate_os(error: OSError, url: str) -> errors.ProviderUnavailable:
    """For a connection of our own that could not be opened."""
    said = error.strerror or str(error)
    return errors.ProviderUnavailable(
        f"The Docker engine at {url} cannot be used: {said}", hint=_hint(error), details={"engine": url}
    )
