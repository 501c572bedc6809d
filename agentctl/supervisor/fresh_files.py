"""The user's logins in an agent's HOME: as new as the user's own, and never older than what the agent renewed itself.

A login that the user has renewed is put over the one of the last start. One that the agent renewed in its HOME stays as
long as the user's is the same as it was then.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from agentctl.supervisor.log.files import said_as_ours

PLACED = ".local/state/agentctl/placed.json"
"""Path → SHA-256 of the text that was put there last."""


def write_fresh_files(home: Path, files: Mapping[str, str]) -> None:
    """Put files under HOME (path relative to it → text), each whole or not at all. What is there and did not come from
    us stays. Raise ``StateError`` where it cannot be."""
    record = home / PLACED
    placed = read_record(record)
    for relative, text in files.items():
        path, digest = home / relative, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        if os.path.lexists(path) and placed.get(relative) in (None, digest):
            continue
        with said_as_ours(path, what="the agent's file"):
            write_whole(path, text.encode("utf-8", "surrogatepass"))
        placed[relative] = digest
        with said_as_ours(record, what="the agent's file"):
            write_whole(record, json.dumps(placed).encode())


def read_record(record: Path) -> dict[str, str]:
    """What was put where; nothing when the record cannot be read."""
    with suppress(OSError, ValueError):
        data = json.loads(record.read_text())
        if isinstance(data, dict):
            return data
    return {}


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Make a file, and the directories above it, so that it appears whole or not at all. Raise ``OSError``."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as stream:
            stream.write(data)
        new.chmod(mode)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
