"""Skills: directories with a ``SKILL.md``, put where an agent looks for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agentctl.errors import SandboxError, UsageError
from agentctl.supervisor.log_files import said_as_ours

Json = dict[str, Any]
SKILL_FILE = "SKILL.md"
GIT_TIMEOUT_S = 120.0


def skills_in(root: Path, source: str) -> Sequence[Path]:
    """The directory itself when it is a skill, else every skill below it. Raise ``UsageError`` where there is none."""
    if (root / SKILL_FILE).is_file():
        return [root]
    found = sorted(path.parent for path in root.glob(f"**/{SKILL_FILE}") if ".git" not in path.parts)
    if not found:
        raise UsageError(f"There is no {SKILL_FILE} in the skill {source}.")
    return found


def fetch(source: str, ref: str | None, scratch: Path) -> Path:
    """A shallow clone below ``scratch``, in a directory called like the repository: a lone skill gets its name.

    Raise ``UsageError`` without git, ``SandboxError`` when the repository does not come.
    """
    if shutil.which("git") is None:
        raise UsageError(f"The skill {source} needs git, which is not installed.")
    target = scratch / (source.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git") or "skill")
    command = [
        "git",
        "clone",
        "--quiet",
        "--depth",
        "1",
        *(["--branch", ref] if ref else []),
        "--",
        source,
        str(target),
    ]
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file",
        "LC_ALL": "C",
    }
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=GIT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as e:
        raise SandboxError(f"The skill {source} did not come within {GIT_TIMEOUT_S:g} s.") from e
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SandboxError(f"git could not fetch the skill {source}: {said[-1] if said else 'no reason'}")
    return target


def install(directory: Path, configs: Iterable[Json]) -> None:
    """Put the skills of ``SkillsConfig`` objects into ``directory``, each whole or not at all; one that is there is
    replaced. Blocks: git and copies may take long."""
    for config in configs:
        for source in config["sources"]:
            with tempfile.TemporaryDirectory(prefix="agentctl-skill-") as scratch:
                _install_source(directory, source, Path(scratch))


def _install_source(directory: Path, source: Json, scratch: Path) -> None:
    where = source["source"]
    if source["type"] == "github" and "://" not in where:
        where = f"https://github.com/{where}"
    root = Path(where).expanduser() if source["type"] == "local" else fetch(where, source.get("ref"), scratch)
    root = (root / source.get("subpath", "")).resolve()
    wanted = source.get("skills")
    for skill in skills_in(root, where):
        if wanted is None or skill.name in wanted:
            _place(skill, directory / skill.name)


def _place(skill: Path, target: Path) -> None:
    new = target.with_name(f".{target.name}.agentctl-new")
    with said_as_ours(target, what="the skill"):
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(skill, new, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        shutil.rmtree(target, ignore_errors=True)
        new.replace(target)
