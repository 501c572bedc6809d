"""Installing agents from npm into the state directory, so that an install is there whole or not at all."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from agentctl.agents import node, npm, platform
from agentctl.agents.installed import Installed, installed, write_manifest
from agentctl.agents.npm import Progress
from agentctl.agents.place import new_place, place_lock, remove_leftovers
from agentctl.agents.recipes import find, manual_command
from agentctl.agents.schema import AgentRecipe
from agentctl.errors import InstallFailed, Unsupported
from agentctl.paths import StatePaths

__all__ = ["Installed", "install", "install_for", "installed", "uninstall"]


def _quiet(_phase: str, _done: int | None, _total: int | None) -> None:
    return None


async def install(
    paths: StatePaths,
    name: str,
    *,
    reinstall: bool = False,
    own_node: bool = False,
    registry: str | None = None,
    progress: Progress = _quiet,
) -> Installed:
    """Install the pinned version of the agent ``name``; one that is there already is returned as it is.

    Two installs at once: the second waits, then uses the first's. A killed install leaves only a temporary directory,
    which the next one removes. ``own_node``: not this machine's Node, which a container has not; what an agent that is
    there already runs on is not changed. Raise ``AgentNotFound``, ``InstallFailed``, ``DiskFull``,
    ``StateNotWritable``, or ``Unsupported`` for an agent that cannot be installed by us.
    """
    recipe = find(name)
    _check_installable(recipe)
    before = installed(paths, recipe.name, recipe.version)
    if before and not reinstall and _usable(before):
        return before
    paths.ensure()
    runtime = None
    if recipe.install.node:
        minimum = recipe.install.node
        runtime = await node.ensure_node(paths, minimum, registry=registry, progress=progress, own=own_node)
    job = _Job(recipe, None, runtime, registry, progress)
    return await _installed_anew(paths, job, lambda now: _usable(now) and (not reinstall or now != before))


async def install_for(
    paths: StatePaths, name: str, target: str, *, registry: str | None = None, progress: Progress = _quiet
) -> Installed:
    """The same for containers of the platform ``target``, without a Node. Where it is this machine's, they share
    the install, which then comes with our own Node, where there is one."""
    recipe = find(name)
    _check_installable(recipe)
    there = installed(paths, recipe.name, recipe.version, platform=target)
    if there:
        return there
    if target == platform.npm_platform():
        return await install(paths, name, own_node=node.has_own(target), registry=registry, progress=progress)
    paths.ensure()
    return await _installed_anew(paths, _Job(recipe, target, None, registry, progress), lambda _: True)


class _Job(NamedTuple):
    """What to install; ``target`` None is this machine's platform."""

    recipe: AgentRecipe
    target: str | None
    runtime: node.NodeRuntime | None
    registry: str | None
    progress: Progress


async def _installed_anew(paths: StatePaths, job: _Job, will_do: Callable[[Installed], bool]) -> Installed:
    """Install under the lock, unless another did it meanwhile."""
    recipe = job.recipe
    root = platform.agents_root(paths, job.target) / recipe.name
    async with place_lock(root, job.progress):
        now = installed(paths, recipe.name, recipe.version, platform=job.target)
        if now and will_do(now):
            return now
        async with new_place(root, recipe.version) as place:
            await _fill(place, job)
            await asyncio.to_thread(_finish, place, job)
    done = installed(paths, recipe.name, recipe.version, platform=job.target)
    assert done is not None
    job.progress(f"{recipe.title} {recipe.version}", done.size_bytes, done.size_bytes)
    return done


def _usable(one: Installed) -> bool:
    return one.node is None or one.node.exists()


def _check_installable(recipe: AgentRecipe) -> None:
    kind = recipe.install.kind
    if kind == "builtin":
        raise Unsupported(f"{recipe.title} is built in: there is nothing to install.")
    if kind == "manual":
        manual_command(recipe)  # says how to get it where it is not on PATH
        raise Unsupported(
            f"{recipe.title} is used from PATH ({recipe.install.command}): there is nothing to install.",
            hint="Update it the way you installed it.",
        )


async def _fill(place: Path, job: _Job) -> None:
    recipe = job.recipe
    await npm.install(
        place,
        _resolved(recipe.install.packages, job.target),
        registry=job.registry,
        size_bytes=recipe.install.size_mb * 1_000_000 or None,
        label=f"{recipe.title} {recipe.version}" + (f" for {job.target}" if job.target else ""),
        progress=job.progress,
        platform=job.target,
    )


def _resolved(texts: tuple[str, ...], target: str | None) -> tuple[str, ...]:
    """Packages or paths of a recipe with the platform filled in."""
    return tuple(text.replace("{platform}", target or platform.npm_platform()) for text in texts)


def _finish(place: Path, job: _Job) -> None:
    """Check what npm did and write the manifest, last of all."""
    recipe, runtime = job.recipe, job.runtime
    modules = place / "node_modules"
    for relative in _resolved(recipe.install.verify, job.target):
        if not (modules / relative).exists():
            raise InstallFailed(f"npm installed {recipe.title}, but {relative} is missing.", details={"path": relative})
    lock = json.loads((place / "package-lock.json").read_text())["packages"]
    packages, integrity = {}, {}
    for wanted in _resolved(recipe.install.packages, job.target):
        name, _, version = wanted.rpartition("@")
        packages[name] = _installed_version(lock, name, version)
        integrity[name] = str(lock[f"node_modules/{name}"].get("integrity", ""))
    node_path = _node_reference(place, runtime)
    manifest = Installed(
        name=recipe.name,
        version=recipe.version,
        path=place,
        packages=packages,
        integrity=integrity,
        node=node_path,
        node_version=runtime.version if runtime else None,
        installed_at=time.time(),
        size_bytes=npm.size_of(modules),
    )
    write_manifest(place, manifest)


def _installed_version(lock: dict[str, Any], name: str, wanted: str) -> str:
    """npm may quietly take another version than was asked for: read it back."""
    version = str(lock.get(f"node_modules/{name}", {}).get("version", "nothing"))
    if version != wanted:
        raise InstallFailed(f"npm installed {version} of {name} instead of {wanted}.")
    return version


def _node_reference(place: Path, runtime: node.NodeRuntime | None) -> Path | None:
    """Our own Node relative to the install, so that a state directory can be moved."""
    if runtime is None or not runtime.own:
        return runtime.path if runtime else None
    agents = place.parent.parent
    return Path("..", "..", runtime.path.relative_to(agents))


async def uninstall(paths: StatePaths, name: str) -> list[str]:
    """Remove every installed version of ``name``, those for containers too, and return which there were; none is fine.

    Our own Node goes with the last agent that runs on it.
    """
    recipe = find(name)
    removed: set[str] = set()
    for agents in (paths.agents, *paths.agents_for("").glob("*")):
        root = agents / recipe.name
        if not root.is_dir():
            continue
        async with place_lock(root, _quiet):
            there = [entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
            await asyncio.to_thread(_remove, root, there)
        removed.update(there)
    if removed:
        await asyncio.to_thread(_remove_unused_node, paths)
    return sorted(removed)


def _remove(root: Path, versions: list[str]) -> None:
    """Rename first: a removal cut short must not leave a manifest above missing files."""
    for version in versions:
        (root / version).rename(root / f".tmp-{secrets.token_hex(6)}")
    remove_leftovers(root)


def _remove_unused_node(paths: StatePaths) -> None:
    root = paths.agents / "node"
    used = any(root.resolve() in one.node.resolve().parents for one in _all_installed(paths, None) if one.node)
    if root.is_dir() and not used:
        shutil.rmtree(root, ignore_errors=True)
    for agents in paths.agents_for("").glob("*"):
        if not _all_installed(paths, agents.name):
            shutil.rmtree(agents / "node", ignore_errors=True)


def _all_installed(paths: StatePaths, target: str | None) -> list[Installed]:
    folders = platform.agents_root(paths, target).glob("*")
    return [one for folder in folders if (one := installed(paths, folder.name, platform=target)) is not None]
