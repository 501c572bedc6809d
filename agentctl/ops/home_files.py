"""What a session's agent finds under its HOME besides its own: the user's files, skills and instructions.

Read on this host at every start, so that a change arrives.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.ops.skill_sources import MAX_TOTAL_BYTES, as_file, files_of, read

if TYPE_CHECKING:
    from agentctl.agents.schema import AgentRecipe
    from agentctl.model import SessionSpec
    from agentctl.paths import StatePaths

Json = dict[str, Any]


def check(spec: SessionSpec) -> None:
    """Whether the session's agent can be given all that. Raise ``UsageError`` for a place outside of HOME,
    ``Unsupported`` for an agent of which nobody knows where it looks, ``AgentNotFound``."""
    recipe = _recipe(spec)
    for file in spec.files:
        place(recipe, file["target"])
    if spec.skills:
        _skills(recipe, spec)
    if spec.system_prompt:
        _instructions(recipe, spec)


def collect(paths: StatePaths, spec: SessionSpec) -> list[Json]:
    """Every file as ``{"path": relative to HOME, "data": base64, "mode"}``; git skills as they were fetched last.

    Raise as ``check``, and ``UsageError`` for what cannot be read, is no skill, or too much.
    """
    recipe = _recipe(spec)
    files = [as_file(place(recipe, file["target"]), *_content(file)) for file in spec.files]
    for skill in spec.skills:
        directory = _skills(recipe, spec)
        files += [{**file, "path": f"{directory}/{file['path']}"} for file in files_of(paths, skill)]
    if spec.system_prompt:
        files.append(as_file(_instructions(recipe, spec), spec.system_prompt.encode()))
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
    if path.is_absolute() or ".." in path.parts or not path.parts or relative.startswith("~") or "\0" in relative:
        raise errors.UsageError(f"--file {target}=…: the target must be a path inside the agent's HOME.")
    return relative


def _recipe(spec: SessionSpec) -> AgentRecipe | None:
    from agentctl.agents import recipes

    return None if spec.agent_command else recipes.find(spec.agent)


def _skills(recipe: AgentRecipe | None, spec: SessionSpec) -> str:
    if recipe is None or recipe.launch.skills is None:
        raise errors.Unsupported(
            f"Nobody has measured where {recipe.title if recipe else spec.agent} looks for skills.",
            hint="Put the files where it looks by --file PATH=SOURCE.",
        )
    return recipe.launch.skills


def _instructions(recipe: AgentRecipe | None, spec: SessionSpec) -> str:
    if recipe is None or recipe.launch.instructions is None:
        raise errors.Unsupported(
            f"Nobody has measured how {recipe.title if recipe else spec.agent} takes a system prompt.",
            hint="Put it where the agent reads it by --file PATH=SOURCE, or say it in the message.",
        )
    return recipe.launch.instructions


def _content(file: Json) -> tuple[bytes, int]:
    if "text" in file:
        return file["text"].encode(), 0o600
    return read(Path(file["source"]), f"--file {file['target']}")
