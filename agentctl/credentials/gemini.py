"""Gemini CLI: a key in ``GEMINI_API_KEY`` or in its own ``~/.gemini/.env``.

A Google login in a browser is reported, but not handed on: no program takes it from a variable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from agentctl.credentials.base import Credential, Credentials, Need, Places, expiry, filled
from agentctl.credentials.environment import from_session, key_variables

_NAMES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")


def search(need: Need, environ: Mapping[str, str], user_home: Path, given: Mapping[str, str]) -> Credentials:
    if (found := from_session(need, environ, given)).found:
        return found
    places = Places(user_home, {**environ, **given})
    note = "; ".join(places.warnings).rstrip(".")
    for found_one in credentials(places):
        if found_one.kind == "api_key":
            return Credentials(env={_NAMES[0]: found_one.value}, source=f"file: {found_one.place}")
        note = f"the Google login in {found_one.place} cannot be handed on"
    return Credentials(note=note)


def credentials(places: Places) -> Iterator[Credential]:
    """The key in Gemini's own ``.env``, then its Google login."""
    folder = places.home / ".gemini"
    env_file, login_file = folder / ".env", folder / "oauth_creds.json"
    values = _assignments(places.text(env_file) or "")
    for name in _NAMES:
        if key := filled(values.get(name)):
            yield Credential(
                provider="google",
                source="gemini",
                place=str(env_file),
                kind="api_key",
                value=key,
                variables=key_variables("google"),
            )
            break
    login = places.json(login_file)
    if token := filled(login.get("access_token")):
        yield Credential(
            provider="google",
            source="gemini",
            place=str(login_file),
            kind="oauth",
            value=token,
            expires_at=expiry(login.get("expiry_date")),
        )


def _assignments(text: str) -> dict[str, str]:
    """``NAME=value`` lines; one pair of quotes around a value is taken off, nothing is expanded."""
    matches = [_LINE.fullmatch(line) for line in text.splitlines() if not line.lstrip().startswith("#")]
    return {match[1]: _unquoted(match[2]) for match in matches if match}


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value
