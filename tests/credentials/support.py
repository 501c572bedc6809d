"""A user's HOME with the files of other programs."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

SOON = time.time() + 3600
AGO = time.time() - 3600


def put(home: Path, name: str, content: Any) -> str:
    """Write a file below HOME: text as it is, anything else as JSON."""
    file = home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def claude_login(home: Path, token: str = "sk-ant-oat01-login-value", expires_at: Any = SOON * 1000) -> str:
    login = {"accessToken": token, "refreshToken": "never-shown", "expiresAt": expires_at, "scopes": ["user:inference"]}
    return put(home, ".claude/.credentials.json", {"claudeAiOauth": login})


def web_token(expires_at: float) -> str:
    """A JSON web token that ends at that time."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires_at}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{claims}.c2ln"
