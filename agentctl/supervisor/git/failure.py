"""Why a clone failed: asked of the server itself where that is possible, else read from what git says.

``details.class`` is ``auth``, ``not_found``, ``network``, ``exists``, ``no_git`` or ``other``.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from agentctl import errors
from agentctl.supervisor.git.process import last_words, run_git
from agentctl.supervisor.git.request import Clone
from agentctl.supervisor.git.token import TokenDoor, user_name
from agentctl.supervisor.git.url import is_http, is_local

_PROBE_S = 10.0
_NO_SUCH_REF = 2
_WORDS = (
    ("disk_full", r"No space left on device|Disk quota exceeded"),
    ("branch", r"Remote branch .* not found in upstream|Could not find remote branch"),
    (
        "auth",
        r"Authentication failed|could not read (Username|Password)|Permission denied \(|returned error: 40[13]\b"
        r"|unable to read askpass response",
    ),
    ("not_found", r"repository .* not found|does not appear to be a git repository|does not exist|error: 404\b"),
    ("network", r"unable to access|Could not resolve host|Connection (refused|reset|timed out|closed)|Host key veri"),
    ("network", r"early EOF|RPC failed|remote end hung up|unable to connect|Operation too slow|expected flush"),
)
"""git's own sentences in the C locale, the most telling first."""


async def why(clone: Clone, said: str, env: Mapping[str, str], tmp: str) -> errors.AgentctlError:
    """The error for a clone of which git said this."""
    kind = _by_words(said)
    if kind != "disk_full" and is_http(clone.url) and not _has_proxy(env):
        kind = _by_status(await asyncio.to_thread(_status, clone), kind)
    if is_local(clone.url) and not await asyncio.to_thread(os.path.exists, clone.url.removeprefix("file://")):
        kind = "not_found"
    if kind == "other" and clone.branch is not None and await _lacks_branch(clone, env, tmp):
        kind = "branch"
    return _error(kind, clone, without_secrets(last_words(said), clone.token))


def _by_words(said: str) -> str:
    return next((kind for kind, pattern in _WORDS if re.search(pattern, said)), "other")


def _by_status(status: int | None, kind: str) -> str:
    """The server's own answer decides; where it knows the repository, something else went wrong: a branch or a
    submodule, of which git has told."""
    if status in (401, 403):
        return "auth"
    if status in (404, 410):
        return "not_found"
    if status is None:
        return kind if kind in ("auth", "not_found", "branch") else "network"
    if status == 429 or status >= 500:
        return "network"
    return kind


def _status(clone: Clone) -> int | None:
    """What the server answers to the first request of a clone; None when it does not."""
    parts = urlsplit(clone.url)
    kind = http.client.HTTPSConnection if parts.scheme.lower() == "https" else http.client.HTTPConnection
    headers = {"User-Agent": "git/2 (agentctl)"}
    if clone.token is not None:
        headers["Authorization"] = f"Basic {_basic(clone.url, clone.token)}"
    connection = kind(parts.hostname or "", parts.port, timeout=_PROBE_S)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/info/refs?service=git-upload-pack", headers=headers)
        return connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _basic(url: str, token: str) -> str:
    return base64.b64encode(f"{user_name(url)}:{token}".encode()).decode()


def _has_proxy(env: Mapping[str, str]) -> bool:
    """Through a proxy the question would have to go another way than git's."""
    return any(name.lower() in ("http_proxy", "https_proxy", "all_proxy") and env[name] for name in env)


async def _lacks_branch(clone: Clone, env: Mapping[str, str], tmp: str) -> bool:
    """Whether git reaches the repository, and finds no such branch or tag in it."""
    arguments = ["ls-remote", "--exit-code", "--heads", "--tags", "--", clone.url, clone.branch or ""]
    try:
        if clone.token is None:
            ran = await run_git(arguments, env=env, cwd="/", timeout_s=_PROBE_S)
        else:
            async with TokenDoor(tmp, clone.url, clone.token) as door:
                own = {**env, **door.environ}
                ran = await run_git(
                    arguments,
                    env=own,
                    cwd="/",
                    timeout_s=_PROBE_S,
                    settings=["credential.helper="],
                    started=door.serve,
                )
    except (errors.DeadlineExceeded, errors.GitFailed, OSError):
        return False
    return ran.code == _NO_SUCH_REF


def _error(kind: str, clone: Clone, said: str) -> errors.AgentctlError:
    url = clone.url
    details = {"class": "not_found" if kind == "branch" else kind, "url": url, "git": said}
    match kind:
        case "auth" if clone.token is not None:
            return errors.CredentialsRejected(
                f"The token was not accepted for {url}.",
                hint="Check that it is right, has not expired and may read this repository.",
                details=details,
            )
        case "auth":
            return errors.CredentialsMissing(
                f"{url} wants credentials; a repository that does not exist may be answered like that, too.",
                hint="Name a variable that holds a token: --token-env NAME (for --clone: --clone-token-env NAME).",
                details=details,
            )
        case "not_found":
            unless = ", or the token may not see it" if clone.token is not None else ""
            return errors.RepositoryNotFound(f"There is no repository at {url}{unless}.", details=details)
        case "branch":
            return errors.RepositoryNotFound(
                f"{url} has no branch or tag {clone.branch!r}.",
                hint=f"See what there is with: git ls-remote {url}",
                details=details,
            )
        case "network":
            return errors.RemoteUnreachable(f"The server of {url} cannot be reached: {said}", details=details)
        case "disk_full":
            return errors.DiskFull(f"The sandbox's disk is full: {url} was not cloned.", details=details)
    return errors.GitFailed(f"{url} could not be cloned: {said}", details=details)


def without_secrets(text: str, token: str | None) -> str:
    """A server may say back what it was sent."""
    if not token:
        return text
    forms = [token, *(base64.b64encode(f"{user}:{token}".encode()).decode() for user in ("x-access-token", ""))]
    forms.append(base64.b64encode(token.encode()).decode())
    for form in forms:
        text = text.replace(form, "[redacted]")
    return text
