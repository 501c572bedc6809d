"""OpenCode: any provider's key, its own ``auth.json``, or a configuration that names a provider.

Its files are placed in the sandbox's HOME as they are. What ``agentctl`` sets about permissions stands above them.
"""

from __future__ import annotations

import re
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
    parse_json,
    present,
    read_text,
)
from agentctl.credentials.environment import TOKENS, from_variables, key_variables

_CONFIG = "OPENCODE_CONFIG_CONTENT"
_CONFIG_NAMES = ("opencode.json", "opencode.jsonc", "config.json")
_SECRET_VARIABLE = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD)")


def search(need: Need, environ: Mapping[str, str], user_home: Path, given: Mapping[str, str]) -> Credentials:
    environ = {**environ, **given}
    keys = from_variables(need, environ)
    configs = _config_files(environ, user_home)
    auth_file = _folder(environ, "XDG_DATA_HOME", user_home / ".local/share") / "opencode/auth.json"
    auth = read_text(auth_file)
    texts = [environ.get(_CONFIG, ""), *configs.values()]
    files = {f".config/opencode/{file.name}": text for file, text in configs.items()}
    if _has_login(auth):
        files[".local/share/opencode/auth.json"] = auth or ""
    sources = [keys.source] if keys.found else []
    sources += [f"file: {auth_file}"] if _has_login(auth) else []
    sources += [f"environment: {_CONFIG}"] if _names_a_provider(texts[0]) else []
    sources += [f"file: {file}" for file, text in configs.items() if _names_a_provider(text)]
    named = present(environ, _named_variables(texts))
    return Credentials(env={**keys.env, **named}, files=files, secrets=tuple(named.values()), source="; ".join(sources))


def credentials(places: Places) -> Iterator[Credential]:
    """One of each provider in OpenCode's ``auth.json``: its key or its login, an expired one too."""
    file = places.folder("XDG_DATA_HOME", ".local/share") / "opencode/auth.json"
    for provider, entry in places.json(file).items():
        found = _credential(provider, entry, str(file)) if isinstance(entry, dict) else None
        if found is not None:
            yield found
        elif not _is_empty(entry):
            places.warnings.append(f"{file}: the entry {provider!r} is not understood.")


def _credential(provider: str, entry: dict[str, Any], file: str) -> Credential | None:
    match entry.get("type"):
        case "api":
            value, kind, variables = filled(entry.get("key")), "api_key", key_variables(provider)
        case "oauth":
            value, kind, variables = filled(entry.get("access")), "oauth", TOKENS.get(provider, ())[:1]
        case "wellknown":
            # The name was chosen by a server: one such as LD_PRELOAD would run a program.
            name = filled(entry.get("key"))
            value, kind = filled(entry.get("token")), "api_key"
            variables = (name,) if _SECRET_VARIABLE.fullmatch(name) else ()
        case _:
            return None
    if not value:
        return None
    ends = expiry(entry.get("expires") or None)  # 0: a login that does not end
    return Credential(
        provider=provider,
        source="opencode",
        place=file,
        kind="oauth" if kind == "oauth" else "api_key",
        value=value,
        variables=() if provider == "openai" and kind == "oauth" else variables,
        expires_at=ends,
    )


def _is_empty(entry: Any) -> bool:
    return isinstance(entry, dict) and any(entry.get(key) == "" for key in ("key", "access", "token"))


def _has_login(auth: str | None) -> bool:
    entries = [entry for entry in parse_json(auth).values() if isinstance(entry, dict) and entry.get("type")]
    return any(filled(entry.get(key)) for entry in entries for key in ("key", "access", "refresh", "token"))


def _folder(environ: Mapping[str, str], variable: str, default: Path) -> Path:
    return Path(environ[variable]) if environ.get(variable) else default


def _config_files(environ: Mapping[str, str], user_home: Path) -> dict[Path, str]:
    folder = _folder(environ, "XDG_CONFIG_HOME", user_home / ".config") / "opencode"
    texts = {folder / name: read_text(folder / name) for name in _CONFIG_NAMES}
    return {file: text for file, text in texts.items() if text}


def _names_a_provider(text: str) -> bool:
    """The configuration may have comments (JSONC), so it is searched and not parsed."""
    return re.search(r'"provider"\s*:\s*\{\s*[^\s}]', text) is not None


def _named_variables(texts: list[str]) -> tuple[str, ...]:
    """The variables that a configuration asks for as ``{env:NAME}``."""
    return tuple(dict.fromkeys(name for text in texts for name in re.findall(r"\{env:(\w+)\}", text)))
