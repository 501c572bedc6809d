"""Which addresses of repositories are taken, and what they say. Also used on the host, before a sandbox is started."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from agentctl.errors import UsageError

_SCHEMES = ("http", "https", "ssh", "git", "file")
_SCP = re.compile(r"(?:[\w.-]+@)?\w[\w.-]*:(?![:/]/)(?!:)\S.*")
_MAX_CHARS = 4096
_PORTS = {"http": 80, "https": 443}


def check_url(url: object) -> str:
    """``http(s)://``, ``ssh://``, ``git://``, ``user@host:path``, ``file://`` or an absolute path in the sandbox.

    Raise ``UsageError`` for anything else, among it ``ext::`` and its like, which would run a program, and for an
    address with a password in it: it would stay in the repository's configuration. The error does not repeat it.
    """
    if not isinstance(url, str) or not url or len(url) > _MAX_CHARS:
        raise UsageError("The address of a repository is missing.", hint="Write it as https://HOST/OWNER/NAME.")
    if any(ord(char) < 33 or ord(char) == 127 for char in url):
        raise UsageError("The address of a repository holds spaces or control characters.")
    if url.startswith("/"):
        return url
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme in _SCHEMES:
        _check_host(url, scheme)
    elif scheme or not _SCP.fullmatch(url):
        raise UsageError(
            f"{without_password(url)!r} is not the address of a repository.",
            hint=f"It begins with {', '.join(f'{s}://' for s in _SCHEMES)} or user@host: or is an absolute path.",
        )
    return url


def _check_host(url: str, scheme: str) -> None:
    try:
        parts = urlsplit(url)
        host, secret = parts.hostname or "", parts.password
        _ = parts.port
    except ValueError:
        raise UsageError("The address of a repository has no host that can be read.") from None
    if scheme != "file" and (not host or host.startswith("-")):
        raise UsageError(f"{without_password(url)!r} names no host.")
    if secret is not None or (scheme in _PORTS and "@" in parts.netloc):
        raise UsageError(
            f"The address {without_password(url)} has a user or a password in it, which git would write down.",
            hint="Leave out what stands before the @, and give the token by --token-env NAME.",
        )


def without_password(url: str) -> str:
    """The address without what stands before the ``@`` of its host, as far as there may be a secret in it."""
    scheme, sign, rest = url.partition("://")
    if not sign:
        return re.sub(r"^[^@/]*:[^@/]*@", "", url)
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def is_http(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def is_private(url: str) -> bool:
    """Whether nobody on the way can read what is sent there."""
    asked = origin(url)
    return asked is None or asked[0] == "https" or asked[1] in ("localhost", "127.0.0.1", "::1")


def is_local(url: str) -> bool:
    return url.startswith("/") or url.lower().startswith("file://")


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an ``http(s)`` address: whom a token is for. None for any other."""
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        if scheme not in _PORTS or not parts.hostname:
            return None
        return scheme, parts.hostname.lower(), parts.port or _PORTS[scheme]
    except ValueError:
        return None


def repository_name(url: str) -> str:
    """The directory that a clone gets without another name. Raise ``UsageError`` where the address has none."""
    path = url.partition("://")[2].partition("/")[2] if "://" in url else url
    name = re.split(r"[/:]", path.rstrip("/").removesuffix("/.git").removesuffix(".git"))[-1]
    if name in ("", ".", "..") or name.startswith("-"):
        raise UsageError(
            f"{without_password(url)} does not say how the directory shall be called.", hint="Give --path."
        )
    return name
