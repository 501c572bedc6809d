"""Skills: directories with a ``SKILL.md``, put where an agent looks for them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentctl.errors import SandboxError, UsageError
from agentctl.supervisor.log.files import said_as_ours

Json = dict[str, Any]
SKILL_FILE = "SKILL.md"
GIT_TIMEOUT_S = 120.0
_GIT_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file", "LC_ALL": "C"}


def skills_in(root: Path, source: str) -> Sequence[Path]:
    """The directory itself when it is a skill, else every skill below it. Raise ``UsageError`` where there is none."""
    if (root / SKILL_FILE).is_file():
        return [root]
    found = sorted(path.parent for path in root.glob(f"**/{SKILL_FILE}") if ".git" not in path.parts)
    if not found:
        raise UsageError(f"There is no {SKILL_FILE} in the skill {source}.")
    return found


async def fetch(source: str, ref: str | None, scratch: Path, *, timeout_s: float = GIT_TIMEOUT_S) -> Path:
    """A shallow clone below ``scratch``, in a directory called like the repository: a lone skill gets its name.

    Raise ``UsageError`` without git, ``SandboxError`` when the repository does not come.
    """
    if shutil.which("git") is None:
        raise UsageError(f"The skill {source} needs git, which is not installed.")
    target = scratch / (source.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git") or "skill")
    branch = ["--branch", ref] if ref else []
    process = await asyncio.create_subprocess_exec(
        *("git", "clone", "--quiet", "--depth", "1", *branch, "--", source, str(target)),
        env={**os.environ, **_GIT_ENVIRONMENT},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            _, said = await process.communicate()
    except TimeoutError as e:
        raise SandboxError(f"The skill {source} did not come within {timeout_s:g} s.") from e
    finally:
        with suppress(ProcessLookupError):  # git's own helpers too; after a good end there are none
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode != 0:
        words = said.decode(errors="replace").strip().splitlines()
        raise SandboxError(f"git could not fetch the skill {source}: {words[-1] if words else 'no reason'}")
    return target


async def install(directory: Path, configs: Iterable[Json]) -> None:
    """Put the skills of ``SkillsConfig`` objects into ``directory``, each whole or not at all; one that is there is
    replaced. Those of a repository that cannot be fetched now stay as they are, if they came before."""
    for config in configs:
        for source in config["sources"]:
            with tempfile.TemporaryDirectory(prefix="agentctl-skill-") as scratch:
                await _install_source(directory, source, Path(scratch))


async def _install_source(directory: Path, source: Json, scratch: Path) -> None:
    where = source["source"]
    if source["type"] == "github" and "://" not in where:
        where = f"https://github.com/{where}"
    mark = directory / f".fetched-{hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:16]}"
    try:
        root = await fetch(where, source.get("ref"), scratch) if source["type"] != "local" else None
    except SandboxError:
        if mark.exists():
            return
        raise
    await asyncio.to_thread(_place_all, directory, root, where, source)
    if source["type"] != "local":
        mark.touch()


def _place_all(directory: Path, fetched: Path | None, where: str, source: Json) -> None:
    root = fetched or Path(where).expanduser()
    root = (root / (source.get("subpath") or "")).resolve()
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
