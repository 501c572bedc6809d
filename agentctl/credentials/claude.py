"""Claude Code: exactly one kind of credential, since an API key silently beats a subscription token.

Order: a cloud switch, the environment in the recipe's order, the OAuth token of a logged-in Claude Code, the API key
that it keeps. On macOS Claude Code keeps its token in the keychain, which is not read.
"""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentctl.credentials.base import Credentials, Need, get_path, parse_json, read_text
from agentctl.credentials.environment import from_switches, from_variables

_OAUTH_FILES = (".claude/.credentials.json", ".claude-oauth-credentials.json")
_KEY_FILES = (".claude.json.api", ".claude.json")
_KEY_NAMES = ("primaryApiKey", "apiKey", "anthropicApiKey", "customApiKey")


def search(need: Need, environ: Mapping[str, str], user_home: Path) -> Credentials:
    for found in (from_switches(need, environ), from_variables(need, environ)):
        if found.found:
            return found
    config = Path(environ["CLAUDE_CONFIG_DIR"]) if environ.get("CLAUDE_CONFIG_DIR") else None
    oauth = _oauth(user_home, config)
    return oauth if oauth.found else _api_key(user_home, config, note=oauth.note)


def _oauth(user_home: Path, config: Path | None) -> Credentials:
    files = [user_home / name for name in _OAUTH_FILES]
    if config is not None:
        files.insert(0, config / ".credentials.json")
    note = "the macOS keychain was not read" if sys.platform == "darwin" else ""
    for file in files:
        login = get_path(parse_json(read_text(file)), "claudeAiOauth")
        token = get_path(login, "accessToken")
        if not isinstance(token, str) or not token:
            continue
        if expired(get_path(login, "expiresAt")):
            note = f"the login in {file} has expired: run `claude` once to renew it"
            continue
        return Credentials(env={"CLAUDE_CODE_OAUTH_TOKEN": token}, source=f"file: {file}")
    return Credentials(note=note)


def expired(expires_at: Any, now: float | None = None) -> bool:
    """Whether an expiry (epoch milliseconds or RFC 3339 text) has passed. One that cannot be read has not."""
    now = time.time() if now is None else now
    if isinstance(expires_at, (int, float)) and not isinstance(expires_at, bool):
        return expires_at / 1000 <= now
    if isinstance(expires_at, str):
        try:
            moment = datetime.datetime.fromisoformat(expires_at)
        except ValueError:
            return False
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp() <= now
    return False


def _api_key(user_home: Path, config: Path | None, *, note: str) -> Credentials:
    files = [user_home / name for name in _KEY_FILES]
    if config is not None:
        files.insert(0, config / ".claude.json")
    for file in files:
        data = parse_json(read_text(file))
        for name in _KEY_NAMES:
            key = data.get(name)
            if isinstance(key, str) and key.startswith("sk-ant-"):
                return Credentials(env={"ANTHROPIC_API_KEY": key}, source=f"file: {file}", note=note)
    return Credentials(note=note)
