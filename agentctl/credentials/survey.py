"""All credentials of a user, one for each model provider: the environment first, then files of agents' own programs.

The order of the sources is the one that sandbox-agent has. For a session another order holds, since there a token that
was meant must not lose against a key that is lying around: see ``environment.from_session``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agentctl.credentials import amp, claude, codex, environment, gemini, opencode
from agentctl.credentials.base import Credential, Places

MAIN = ("anthropic", "openai")


class Survey(NamedTuple):
    """The credentials by provider, sorted; ``passed_over`` are expired ones, best first; ``warnings`` are sentences."""

    found: dict[str, Credential]
    passed_over: tuple[Credential, ...]
    warnings: tuple[str, ...]

    def to_json(self, *, reveal: bool = False) -> dict[str, Any]:
        """``{"anthropic": null|…, "openai": null|…, "other": {provider: …}}``, each as ``credential_json`` has it."""
        shown = {name: credential_json(found, reveal=reveal) for name, found in self.found.items()}
        other = {name: value for name, value in shown.items() if name not in MAIN}
        return {**{name: shown.get(name) for name in MAIN}, "other": other}


def survey(environ: Mapping[str, str], home: Path, *, oauth: bool = True, elsewhere: bool = False) -> Survey:
    """Look everywhere. Without ``oauth`` only API keys count. With ``elsewhere`` the variables that say where programs
    keep their files (``CODEX_HOME``, …) do not: they speak of another HOME than ``home``."""
    places = Places(home, {} if elsewhere else environ)
    found: dict[str, Credential] = {}
    expired = []
    for credential in _candidates(environ, places):
        if credential.kind == "oauth" and not oauth:
            continue
        if credential.is_expired:
            expired.append(credential)
        else:
            found.setdefault(credential.provider, credential)
    passed_over = tuple(one for one in expired if one.provider not in found)
    warnings = [f"The login for {one.provider} in {one.place} has expired." for one in passed_over]
    if oauth and "anthropic" not in found and (note := claude.keychain_note()):
        warnings.append(f"{note[0].upper()}{note[1:]}.")
    return Survey(dict(sorted(found.items())), passed_over, (*dict.fromkeys(places.warnings), *warnings))


def _candidates(environ: Mapping[str, str], places: Places) -> Iterator[Credential]:
    yield from environment.credentials(environ)
    for program in (amp, claude, codex, gemini, opencode):
        yield from program.credentials(places)


def credential_json(credential: Credential, *, reveal: bool = False) -> dict[str, Any]:
    """``{"provider", "source", "auth_type", "api_key", "redacted", "place", "variables", "expires_at"}``."""
    return {
        "provider": credential.provider,
        "source": credential.source,
        "auth_type": credential.kind,
        "api_key": credential.value if reveal else redacted(credential.value),
        "redacted": not reveal,
        "place": credential.place,
        "variables": list(credential.variables),
        "expires_at": credential.expires_at,
    }


def redacted(value: str) -> str:
    """Enough of a long value to tell it from another, and nothing of a short one."""
    return "****" if len(value) <= 16 else f"{value[:4]}...{value[-4:]}"
