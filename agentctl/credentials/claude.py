"""Claude Code: exactly one kind of credential, since an API key silently beats a subscription token.

Order: what ``environment.from_session`` says, the OAuth token of a logged-in Claude Code, the API key that it keeps. On
macOS Claude Code keeps its token in the keychain, which is not read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agentctl.credentials.base import Credential, Credentials, Need, Places, expiry, filled, get_path
from agentctl.credentials.environment import from_session

_KEY_NAMES = ("primaryApiKey", "apiKey", "anthropicApiKey", "customApiKey")
KEY_VARIABLES = ("ANTHROPIC_API_KEY", "CLAUDE_API_KEY")
OAUTH_VARIABLE = "CLAUDE_CODE_OAUTH_TOKEN"


def search(need: Need, environ: Mapping[str, str], user_home: Path, given: Mapping[str, str]) -> Credentials:
    if (found := from_session(need, environ, given)).found:
        return found
    places = Places(user_home, {**environ, **given})
    logins = list(_logins(places))
    for login in logins:
        if not login.is_expired:
            return Credentials(env={OAUTH_VARIABLE: login.value}, source=f"file: {login.place}")
    note = _why_no_login(logins, places)
    for key in _keys(places):
        return Credentials(env={KEY_VARIABLES[0]: key.value}, source=f"file: {key.place}", note=note)
    return Credentials(note=note)


def credentials(places: Places) -> Iterator[Credential]:
    """The API key that Claude Code keeps, then its logins, expired ones too."""
    yield from _keys(places)
    yield from _logins(places)


def keychain_note() -> str:
    return "the macOS keychain was not read" if sys.platform == "darwin" else ""


def _why_no_login(expired_ones: Iterable[Credential], places: Places) -> str:
    for login in expired_ones:
        return f"the login in {login.place} has expired: run `claude` once to renew it"
    return keychain_note() or "; ".join(places.warnings).rstrip(".")


def _logins(places: Places) -> Iterator[Credential]:
    home = places.home
    own = places.folder("CLAUDE_CONFIG_DIR", ".claude") / ".credentials.json"
    for file in dict.fromkeys([own, home / ".claude/.credentials.json", home / ".claude-oauth-credentials.json"]):
        login = get_path(places.json(file), "claudeAiOauth")
        if token := filled(get_path(login, "accessToken")):
            yield Credential(
                provider="anthropic",
                source="claude-code",
                place=str(file),
                kind="oauth",
                value=token,
                variables=(OAUTH_VARIABLE,),
                expires_at=expiry(get_path(login, "expiresAt")),
            )


def _keys(places: Places) -> Iterator[Credential]:
    home = places.home
    own = [places.folder("CLAUDE_CONFIG_DIR", "") / ".claude.json"] if places.environ.get("CLAUDE_CONFIG_DIR") else []
    for file in dict.fromkeys([*own, home / ".claude.json.api", home / ".claude.json"]):
        data = places.json(file)
        for name in _KEY_NAMES:
            if (key := filled(data.get(name))).startswith("sk-ant-"):
                yield Credential(
                    provider="anthropic",
                    source="claude-code",
                    place=str(file),
                    kind="api_key",
                    value=key,
                    variables=KEY_VARIABLES,
                )


def expired(expires_at: Any, now: float | None = None) -> bool:
    """Whether an expiry (epoch milliseconds or RFC 3339 text) has passed. One that cannot be read has not."""
    moment = expiry(expires_at)
    return moment is not None and moment <= (time.time() if now is None else now)
