"""Codex: a key in the environment is no login for it, and it ignores ``OPENAI_BASE_URL``; both are put right here.

* ``CODEX_API_KEY`` or ``OPENAI_API_KEY``: handed on with ``DEFAULT_AUTH_REQUEST``, which makes the adapter log in.
* ``~/.codex/auth.json`` (``$CODEX_HOME``): a key in it is handed on likewise, a ChatGPT login as the file itself.
* a custom ``model_provider`` in ``CODEX_CONFIG`` or ``config.toml``: handed on as ``CODEX_CONFIG`` with the variables
  that it names. Nothing else of ``config.toml`` crosses: it may switch off the sandbox or the questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agentctl.credentials.base import (
    Credential,
    Credentials,
    Need,
    Places,
    expiry,
    filled,
    get_path,
    parse_json,
    present,
    read_text,
)
from agentctl.credentials.environment import key_variables

_CONFIG = "CODEX_CONFIG"
_API_KEY_LOGIN = json.dumps({"methodId": "api-key"})


def search(need: Need, environ: Mapping[str, str], user_home: Path, given: Mapping[str, str]) -> Credentials:
    own, environ = environ, {**environ, **given}
    if environ.get(_CONFIG) and not parse_json(environ[_CONFIG]):
        return Credentials(note=f"{_CONFIG} is not a JSON object")
    codex_home = Path(environ.get("CODEX_HOME") or user_home / ".codex")
    config, where = _config(environ, codex_home)
    settings = {_CONFIG: json.dumps(config)} if config else {}
    provider = _custom_provider(config)
    if provider and not provider.get("requires_openai_auth"):
        return _of_provider(provider, environ, settings, f"{where}: model provider {config['model_provider']}")
    login = _from_variables(need, own, given) or _from_file(codex_home / "auth.json")
    return Credentials(env={**settings, **login.env}, files=login.files, source=login.source, note=login.note)


def credentials(places: Places) -> Iterator[Credential]:
    """The API key that Codex keeps, then its ChatGPT login, which no program takes from a variable."""
    file = places.folder("CODEX_HOME", ".codex") / "auth.json"
    auth = places.json(file)
    if key := filled(auth.get("OPENAI_API_KEY")):
        yield Credential(
            provider="openai",
            source="codex",
            place=str(file),
            kind="api_key",
            value=key,
            variables=key_variables("openai"),
        )
    if token := filled(get_path(auth, "tokens", "access_token")):
        yield Credential(
            provider="openai",
            source="codex",
            place=str(file),
            kind="oauth",
            value=token,
            expires_at=_expiry_inside(token),
        )


def _expiry_inside(token: str) -> float | None:
    """When a JSON web token says that it ends; it is not verified."""
    import base64

    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return expiry(claims["exp"] * 1000)
    except (ValueError, IndexError, KeyError, TypeError):
        return None


def _of_provider(
    provider: dict[str, Any], environ: Mapping[str, str], settings: dict[str, str], source: str
) -> Credentials:
    key = provider.get("env_key")
    named = present(environ, _named_variables(provider))
    env = {**settings, **named}
    if isinstance(key, str) and key not in named:
        return Credentials(env=env, note=f"{source} needs the variable {key}, which is not set")
    return Credentials(env=env, secrets=tuple(named.values()), source=source)


def _config(environ: Mapping[str, str], codex_home: Path) -> tuple[dict[str, Any], str]:
    """What to tell Codex, and where it was found."""
    base_url = {"openai_base_url": environ["OPENAI_BASE_URL"]} if environ.get("OPENAI_BASE_URL") else {}
    if environ.get(_CONFIG):
        given = parse_json(environ[_CONFIG])
        return (given if _custom_provider(given) else {**base_url, **given}), f"environment: {_CONFIG}"
    file = codex_home / "config.toml"
    everything = _parse_toml(read_text(file))
    if provider := _custom_provider(everything):
        name = everything["model_provider"]
        model = {"model": everything["model"]} if "model" in everything else {}
        return {**model, "model_provider": name, "model_providers": {name: provider}}, f"file: {file}"
    return base_url, "environment: OPENAI_BASE_URL"


def _parse_toml(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _custom_provider(config: dict[str, Any]) -> dict[str, Any]:
    provider = get_path(config, "model_providers", str(config.get("model_provider")))
    return provider if isinstance(provider, dict) else {}


def _named_variables(provider: dict[str, Any]) -> tuple[str, ...]:
    headers = provider.get("env_http_headers")
    names = [provider.get("env_key"), *(headers.values() if isinstance(headers, dict) else ())]
    return tuple(name for name in names if isinstance(name, str))


def _from_variables(need: Need, own: Mapping[str, str], given: Mapping[str, str]) -> Credentials | None:
    """The session's keys, or else the caller's, which the session may withhold by an empty value."""
    rest = {name: value for name, value in own.items() if name not in given}
    for word, variables in (("session", given), ("environment", rest)):
        if found := present(variables, need.variables):
            env = {**found, "DEFAULT_AUTH_REQUEST": _API_KEY_LOGIN}
            return Credentials(env=env, source=f"{word}: {', '.join(found)}")
    return None


def _from_file(file: Path) -> Credentials:
    """A ChatGPT login that has expired is placed, too: Codex renews it."""
    text = read_text(file)
    auth = parse_json(text)
    has_login = bool(filled(get_path(auth, "tokens", "access_token")))
    key = filled(auth.get("OPENAI_API_KEY"))
    if key and not (has_login and auth.get("auth_mode") == "chatgpt"):
        return Credentials(env={"OPENAI_API_KEY": key, "DEFAULT_AUTH_REQUEST": _API_KEY_LOGIN}, source=f"file: {file}")
    if text and has_login:
        return Credentials(files={".codex/auth.json": text}, source=f"file: {file}")
    return Credentials(note=f"{file} holds no login" if text else "")
