"""What a session's agent finds under its HOME besides its own: the user's files, skills and instructions.

Read on this host at every start, so that a change arrives. A skill from a git repository is fetched here too, with the
user's own git credentials.
"""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import errors

if TYPE_CHECKING:
    from agentctl.agents.schema import AgentRecipe
    from agentctl.model import SessionSpec

Json = dict[str, Any]
MAX_TOTAL_BYTES = 32 * 1024 * 1024
_GIT_SIGNS = ("https://", "http://", "ssh://", "git@", "file://")


def collect(spec: SessionSpec, recipe: AgentRecipe | None) -> list[Json]:
    """Every file as ``{"path": relative to HOME, "data": base64, "mode"}``.

    Raise ``UsageError`` for what cannot be read or is no skill, ``Unsupported`` for an agent of which nobody knows
    where it looks, ``SandboxError`` when a repository cannot be fetched.
    """
    name = recipe.title if recipe else spec.agent
    files = [_file(place(recipe, file["target"]), _content(file)) for file in spec.files]
    if spec.skills:
        if recipe is None or recipe.launch.skills is None:
            raise errors.Unsupported(f"Nobody has measured where {name} looks for skills.", hint="Use --file instead.")
        for skill in spec.skills:
            files += _skill_files(recipe.launch.skills, skill)
    if spec.system_prompt:
        if recipe is None or recipe.launch.instructions is None:
            raise errors.Unsupported(f"Nobody has measured how {name} takes a system prompt.")
        files.append(_file(recipe.launch.instructions, (spec.system_prompt.encode(), 0o600)))
    total = sum(len(file["data"]) for file in files) * 3 // 4
    if total > MAX_TOTAL_BYTES:
        raise errors.UsageError(
            f"The session's files and skills have {total} bytes together; {MAX_TOTAL_BYTES} may go in at the start.",
            hint="Copy the large ones in later with: agentctl cp",
        )
    return files


def place(recipe: AgentRecipe | None, target: str) -> str:
    """Where a ``--file`` goes, relative to HOME: a name that the agent is known by, such as ``auth.json``, or a path.

    Raise ``UsageError`` for a path outside of HOME.
    """
    known = recipe.launch.known_files.get(target) if recipe else None
    relative = known or target.removeprefix("~/")
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in relative:
        raise errors.UsageError(f"--file {target}=…: the target must be a path inside the agent's HOME.")
    return relative


def _content(file: Json) -> tuple[bytes, int]:
    if "text" in file:
        return file["text"].encode(), 0o600
    return _read(Path(file["source"]), f"--file {file['target']}")


def _read(path: Path, what: str) -> tuple[bytes, int]:
    try:
        if path.stat().st_size > MAX_TOTAL_BYTES:
            raise errors.UsageError(f"{what}: {path} is larger than {MAX_TOTAL_BYTES} bytes.")
        return path.read_bytes(), 0o700 if os.access(path, os.X_OK) else 0o600
    except OSError as e:
        raise errors.UsageError(f"{what}: cannot read {path}: {e.strerror}.") from e


def _file(path: str, content: tuple[bytes, int]) -> Json:
    data, mode = content
    return {"path": path, "data": base64.b64encode(data).decode(), "mode": mode}


def _skill_files(directory: str, skill: Json) -> Iterator[Json]:
    from agentctl.supervisor.skills import fetch, skills_in

    source = skill["source"]
    with tempfile.TemporaryDirectory(prefix="agentctl-skill-") as scratch:
        root = fetch(source, skill.get("ref"), Path(scratch)) if is_git(source) else Path(source)
        for found in skills_in(root, source):
            name = skill.get("name") or found.name
            for path in sorted(found.rglob("*")):
                relative = path.relative_to(found)
                if path.is_file() and not path.is_symlink() and ".git" not in relative.parts:
                    yield _file(f"{directory}/{name}/{relative.as_posix()}", _read(path, f"--skill {source}"))


def is_git(source: str) -> bool:
    return source.startswith(_GIT_SIGNS)
