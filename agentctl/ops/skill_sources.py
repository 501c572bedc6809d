"""Skills of a session as files: from a directory of this host, or from a git repository, fetched with the user's own
git credentials and kept, so that a repository that cannot be reached later does not hold up a session."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.paths import state_errors
from agentctl.supervisor.git.url import check_url, without_password
from agentctl.supervisor.skills import fetch, skills_in

if TYPE_CHECKING:
    from agentctl.ops.report import Report
    from agentctl.paths import StatePaths

Json = dict[str, Any]
MAX_TOTAL_BYTES = 32 * 1024 * 1024
FETCH_S = 120.0
FETCH_AGAIN_S = 20.0
"""For a repository that was fetched before."""


def is_git(source: str) -> bool:
    return "://" in source or source.startswith("git@")


def check_git(source: str) -> None:
    """Raise ``UsageError`` for an address that is none, and for one with a password: it would show among the
    processes."""
    try:
        check_url(source)
    except errors.UsageError as e:
        raise errors.UsageError(
            f"--skill {without_password(source)}: {e.message}",
            hint="Write https://HOST/OWNER/NAME[#REF]; a private one takes git's own credentials (git credential).",
        ) from e


async def refresh(paths: StatePaths, skills: Iterable[Json], report: Report) -> None:
    """Fetch those from git anew. One that cannot be fetched now stays as it is known, which ``report`` is told.

    Raise ``UsageError`` for what holds no skill, ``SandboxError`` for what cannot be fetched and is not known.
    """
    for skill in skills:
        source, known = skill["source"], _kept_at(paths, skill)
        if not is_git(source):
            continue
        try:
            files = await _fetched(skill, FETCH_AGAIN_S if known.exists() else FETCH_S)
        except errors.SandboxError as e:
            if not known.exists():
                raise
            report(f"The skill {source} stays as it was fetched last: {e.message}")
        else:
            _keep(known, files)


async def _fetched(skill: Json, timeout_s: float) -> list[Json]:
    with tempfile.TemporaryDirectory(prefix="agentctl-skill-") as scratch:
        root = await fetch(skill["source"], skill.get("ref"), Path(scratch), timeout_s=timeout_s)
        return _files_below(root, skill)


def _keep(place: Path, files: list[Json]) -> None:
    from agentctl.providers.trees import make_private_directory, write_private

    make_private_directory(place.parent)
    write_private(place, json.dumps(files))


def files_of(paths: StatePaths, skill: Json) -> list[Json]:
    """``{"path": below the directory of skills, "data": base64, "mode"}`` of every file; of a git skill as it was
    fetched last. Raise ``UsageError`` for what cannot be read or is no skill."""
    if not is_git(skill["source"]):
        return _files_below(Path(skill["source"]), skill)
    place = _kept_at(paths, skill)
    with state_errors(place):
        files: list[Json] = json.loads(place.read_bytes())
        return files


def _kept_at(paths: StatePaths, skill: Json) -> Path:
    key = json.dumps([skill["source"], skill.get("ref"), skill.get("name")])
    return paths.skills / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _files_below(root: Path, skill: Json) -> list[Json]:
    files: list[Json] = []
    size = 0
    for found in skills_in(root, skill["source"]):
        name = skill.get("name") or found.name
        for path in sorted(found.rglob("*")):
            relative = path.relative_to(found)
            if path.is_file() and not path.is_symlink() and ".git" not in relative.parts:
                data, mode = read(path, f"--skill {skill['source']}")
                size += len(data)
                if size > MAX_TOTAL_BYTES:
                    raise errors.UsageError(f"The skill {skill['source']} is larger than {MAX_TOTAL_BYTES} bytes.")
                files.append(as_file(f"{name}/{relative.as_posix()}", data, mode))
    return files


def read(path: Path, what: str) -> tuple[bytes, int]:
    """A file of the user's, and its mode where it is going. Raise ``UsageError``."""
    try:
        if path.stat().st_size > MAX_TOTAL_BYTES:
            raise errors.UsageError(f"{what}: {path} is larger than {MAX_TOTAL_BYTES} bytes.")
        return path.read_bytes(), 0o700 if os.access(path, os.X_OK) else 0o600
    except OSError as e:
        raise errors.UsageError(f"{what}: cannot read {path}: {e.strerror}.") from e


def as_file(path: str, data: bytes, mode: int = 0o600) -> Json:
    return {"path": path, "data": base64.b64encode(data).decode(), "mode": mode}
