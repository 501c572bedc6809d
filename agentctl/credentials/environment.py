"""Environment variables: the caller's own, and those that a session was given (``--env``, ``--secret``, …)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from agentctl.credentials.base import Credential, Credentials, Need, present

_ON = ("1", "true", "yes", "on")

KEYS: dict[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_KEY", "CLAUDE_API_KEY"),
    "openai": ("OPENAI_API_KEY", "CODEX_API_KEY"),
    "amp": ("AMP_API_KEY",),
    "cursor": ("CURSOR_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "google": ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "opencode": ("OPENCODE_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "xai": ("XAI_API_KEY",),
}
"""Provider → the variables that may hold its key, best first."""

TOKENS: dict[str, tuple[str, ...]] = {
    "anthropic": ("CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_AUTH_TOKEN"),
    "openai": ("CODEX_ACCESS_TOKEN",),
    "github-copilot": ("COPILOT_GITHUB_TOKEN",),
}
"""Provider → the variables that may hold an OAuth token."""

_SAME_KEY = {"anthropic": KEYS["anthropic"], "openai": KEYS["openai"], "google": KEYS["google"][:2]}


def key_variables(provider: str) -> tuple[str, ...]:
    """The variables in which programs look for a key of ``provider``."""
    made = provider.upper().replace("-", "_") + "_API_KEY"
    return _SAME_KEY.get(provider) or KEYS.get(provider, (made,))[:1]


def provider_of(variable: str) -> str | None:
    """The provider whose key or token that variable holds."""
    return next((p for table in (KEYS, TOKENS) for p, names in table.items() if variable in names), None)


def credentials(environ: Mapping[str, str]) -> Iterator[Credential]:
    """The keys in the environment, then the tokens. Empty means absent."""
    for provider, names in KEYS.items():
        for name, value in present(environ, names).items():
            yield Credential(
                provider=provider,
                source="environment",
                place=name,
                kind="api_key",
                value=value,
                variables=key_variables(provider),
            )
    for provider, names in TOKENS.items():
        for name, value in present(environ, names).items():
            yield Credential(
                provider=provider, source="environment", place=name, kind="oauth", value=value, variables=(name,)
            )


def search(need: Need, environ: Mapping[str, str], _user_home: Path, given: Mapping[str, str]) -> Credentials:
    return from_session(need, environ, given) if need.exclusive else from_variables(need, {**environ, **given})


def from_variables(need: Need, environ: Mapping[str, str]) -> Credentials:
    """All of the need's variables that have a value."""
    found = present(environ, need.variables)
    return Credentials(env=found, source=f"environment: {', '.join(found)}" if found else "")


def from_session(need: Need, environ: Mapping[str, str], given: Mapping[str, str]) -> Credentials:
    """Exactly one kind: the session's OAuth token, the caller's, the session's key, the caller's.

    A cloud's own login stands above them where the session switches it on, or where the session brings none of its own.
    What the session was given empty is withheld.
    """
    own = {name: value for name, value in environ.items() if name not in given}
    brought = present(given, need.variables)
    for switch, names in need.switches.items():
        where = given if brought else {**own, **given}
        if where.get(switch, "").strip().lower() in _ON:
            return Credentials(env=present({**own, **given}, (switch, *names)), source=f"{_word(switch, given)}")
    tokens = tuple(name for name in need.variables if name.endswith("_OAUTH_TOKEN"))
    keys = tuple(name for name in need.variables if name not in tokens)
    for names in (tokens, keys):
        for variables in (given, own):
            for name, value in present(variables, names).items():
                return Credentials(env={name: value}, source=_word(name, given))
    return Credentials()


def _word(name: str, given: Mapping[str, str]) -> str:
    return f"session: {name}" if name in given else f"environment: {name}"
