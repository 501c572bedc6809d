"""Amp: a key of its own, in ``AMP_API_KEY`` or in the files of its command line tool; no key of a model provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from agentctl.credentials.base import Credential, Credentials, Need, Places, filled, get_path
from agentctl.credentials.environment import from_session

VARIABLE = "AMP_API_KEY"
_SITES = ("apiKey@https://ampcode.com/", "apiKey@https://ampcode.com")
_OLD_KEYS = (
    *("apiKey", "api_key", "accessToken", "access_token", "token"),
    *("anthropicApiKey", "anthropic_api_key"),  # what older versions called Amp's own key
    *("auth.apiKey", "auth.token", "auth.anthropicApiKey", "anthropic.apiKey", "anthropic.token"),
)


def search(need: Need, environ: Mapping[str, str], user_home: Path, given: Mapping[str, str]) -> Credentials:
    if (found := from_session(need, environ, given)).found:
        return found
    places = Places(user_home, {**environ, **given})
    for key in credentials(places):
        return Credentials(env={VARIABLE: key.value}, source=f"file: {key.place}")
    return Credentials(note="; ".join(places.warnings).rstrip("."))


def credentials(places: Places) -> Iterator[Credential]:
    """The key of Amp's current file, then that of its older one."""
    current = places.folder("XDG_DATA_HOME", ".local/share") / "amp/secrets.json"
    old = places.home / ".amp/config.json"
    for file, names in ((current, _SITES), (old, _OLD_KEYS)):
        data = places.json(file)
        for name in names:
            if key := filled(data.get(name)) or filled(get_path(data, *name.split("."))):
                yield Credential(
                    provider="amp", source="amp", place=str(file), kind="api_key", value=key, variables=(VARIABLE,)
                )
                break
