"""The programs of a session's agent in a sandbox that has files of its own: installed here in the form that it needs,
and brought to where it sees them. The user need not have installed anything."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from agentctl.agents import install, node
from agentctl.agents.platform import npm_platform
from agentctl.errors import AgentNotInstalled

if TYPE_CHECKING:
    from agentctl.agents.installed import Installed
    from agentctl.agents.schema import AgentRecipe
    from agentctl.ops.app import App
    from agentctl.providers.base import ImageProvider, Machine

Json = dict[str, Any]


class Programs(NamedTuple):
    """An agent's install, with its paths as the sandbox sees them, and the sandbox's platform."""

    installed: Installed
    platform: str


async def bring(app: App, recipe: AgentRecipe, provider: ImageProvider, machine: Machine) -> Programs:
    """Install what is missing, with progress, and have it where sandboxes of ``machine`` see it. Raise
    ``AgentNotInstalled`` where no Node can be had, ``InstallFailed``, and what bringing it raises."""
    chosen = node_for(app, recipe, machine)
    there = await install.install_for(
        app.paths, recipe.name, machine.platform, registry=app.config.registry, progress=app.progress
    )
    path = await provider.bring(machine, there.path, key_of(there), app.progress)
    if chosen is not None and not chosen.own:
        return Programs(replace(there, path=Path(path), node=chosen.path), machine.platform)
    node_path = None if chosen is None else await _bring_node(app, provider, machine)
    return Programs(replace(there, path=Path(path), node=node_path), machine.platform)


def key_of(there: Installed) -> str:
    """Names the content: npm's lock has the hash of everything in it."""
    digest = hashlib.sha256((there.path / "package-lock.json").read_bytes()).hexdigest()
    return f"{there.name}/{there.version}-{digest[:12]}"


def node_for(app: App, recipe: AgentRecipe, machine: Machine) -> node.NodeRuntime | None:
    """Ours when it is there; else the image's, when it is new enough; else ours, to be installed. None for an agent
    that needs none. Raise ``AgentNotInstalled`` where none can be had."""
    minimum = recipe.install.node
    if minimum is None:
        return None
    ours = node.own_node(app.paths, machine.platform)
    if ours.path.exists():
        return ours
    if machine.node and node.is_enough(machine.node_version or "0", minimum):
        return node.NodeRuntime(Path(machine.node), machine.node_version or "", own=False)
    if node.has_own(machine.platform):
        return ours
    raise AgentNotInstalled(
        f"{recipe.title} needs Node {minimum} in a container of {machine.platform}, {_lack(machine)}.",
        hint="npm has no Node for that platform. Put one into the image (Alpine: `apk add nodejs`), or take an image "
        "that is not made with musl: --image NAME.",
        details={"agent": recipe.name, "image": machine.image, "platform": machine.platform},
    )


def _lack(machine: Machine) -> str:
    if machine.node is None:
        return f"and the image {machine.image} has none"
    return f"and the image {machine.image} has {machine.node_version}"


async def _bring_node(app: App, provider: ImageProvider, machine: Machine) -> Path:
    registry, progress = app.config.registry, app.progress
    own = await node.ensure_own_node(app.paths, machine.platform, registry=registry, progress=progress)
    place = own.path.parents[3]  # <version>/node_modules/<package>/bin/node
    path = await provider.bring(machine, place, f"node/{own.version}", app.progress)
    return Path(PurePosixPath(path, *own.path.relative_to(place).parts))


async def of_spec(app: App, spec: Any, recipe: AgentRecipe, handle: Json | None) -> Programs | None:
    """``bring`` for a session's agent: into the sandbox of ``handle``, else into the one that its spec makes. None for
    an agent that comes in another way."""
    if recipe.install.kind != "npm":
        return None
    if not app.provider(spec.provider).capabilities.machines:
        return await _of_this_machine(app, recipe)
    provider = cast("ImageProvider", app.provider(spec.provider))
    try:
        if handle is not None:
            machine = await provider.machine_of(handle)
        else:
            machine = await provider.machine(spec.image, spec.compute, app.progress)
        return await bring(app, recipe, provider, machine)
    finally:
        app.progress("", None, None)


async def _of_this_machine(app: App, recipe: AgentRecipe) -> Programs:
    """For a provider that takes them along by itself, from where they lie here."""
    here, registry, progress = npm_platform(), app.config.registry, app.progress
    try:
        there = await install.install_for(app.paths, recipe.name, here, registry=registry, progress=progress)
        if there.node is not None and not there.node.is_relative_to(app.paths.agents):
            own = await node.ensure_own_node(app.paths, here, registry=registry, progress=progress)
            there = replace(there, node=own.path)
        return Programs(there, here)
    finally:
        app.progress("", None, None)
