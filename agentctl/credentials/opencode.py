"""OpenCode: any provider's key, its own ``auth.json``, or a configuration that names a provider.

Its files are placed in the sandbox's HOME as they are. What ``agentctl`` sets about permissions stands above them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from agentctl.credentials.base import Credentials, Need, parse_json, present, read_text
from agentctl.credentials.environment import from_variables

_CONFIG = "OPENCODE_CONFIG_CONTENT"
_CONFIG_NAMES = ("opencode.json", "opencode.jsonc", "config.json")


def search(need: Need, environ: Mapping[str, str], user_home: Path) -> Credentials:
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


def _has_login(auth: str | None) -> bool:
    return any(isinstance(entry, dict) and entry.get("type") for entry in parse_json(auth).values())


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
