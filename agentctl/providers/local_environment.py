"""What an agent on this very machine gets to see of the user's environment: an allow-list, under a HOME of its own."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from agentctl.providers.base import sandbox_environment

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")
_PASSED = {"PATH", "LANG", "USER", "LOGNAME", "SHELL", "TZ", "NO_PROXY", "no_proxy", *_PROXIES, *_CERTIFICATES}


def agent_environment(
    user: Mapping[str, str], given: Mapping[str, str], *, sandbox_id: str, home: str, tmp: str
) -> dict[str, str]:
    """The base environment of a sandbox's agents: what is allowed of the user's, then ``given``, then what makes the
    sandbox a sandbox: its id, HOME, TMPDIR and the XDG directories."""
    passed = {name: value for name, value in user.items() if name in _PASSED or name.startswith("LC_")}
    own = sandbox_environment(sandbox_id, home, tmp)
    return {"TERM": "dumb", **passed, **given, **own}


def proxy_secrets(user: Mapping[str, str]) -> tuple[str, ...]:
    """The passwords in the proxy variables that are passed on: to be redacted like any other secret."""
    found = set()
    for name in _PROXIES:
        raw = urlsplit(user.get(name, "")).password
        if raw:
            found |= {raw, unquote(raw)}
    return tuple(sorted(found))
