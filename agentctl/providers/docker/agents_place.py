"""Where sandboxes have agents from: this host's directory where the engine sees it, else a volume of the engine's.

Both have the same tree, at the same place in every sandbox, read-only. There is one for each platform.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from agentctl.agents.platform import agents_root
from agentctl.paths import state_errors
from agentctl.providers.base import Progress
from agentctl.providers.docker.backend import Backend
from agentctl.providers.docker.container import LAYOUT
from agentctl.providers.docker.engine import Engine
from agentctl.providers.docker.images import Image

_EVERYBODY = 0o055


async def mount(backend: Backend, engine: Engine, image: Image) -> Any:
    """What a sandbox of ``image`` mounts to have agents, now and later."""
    from docker.types import Mount

    if engine.is_local:
        root = _root(backend, image)
        return Mount(LAYOUT.agents, str(root), type="bind", read_only=True)
    from agentctl.providers.docker import agents_volume

    volume = await agents_volume.ensure(backend, engine, image)
    return Mount(LAYOUT.agents, volume, type="volume", read_only=True, no_copy=True)


async def bring(backend: Backend, engine: Engine, image: Image, directory: Path, key: str, progress: Progress) -> str:
    """Have ``directory`` there; see ``ImageProvider.bring``."""
    if not engine.is_local:
        from agentctl.providers.docker import agents_volume

        await agents_volume.send(backend, engine, image, directory, key, progress)
        return f"{LAYOUT.agents}/{key}"
    root = _root(backend, image)
    with state_errors(directory):
        directory.parent.chmod(directory.parent.stat().st_mode | _EVERYBODY)
        await asyncio.to_thread(_open_to_everybody, directory)
    return f"{LAYOUT.agents}/{directory.relative_to(root)}"


def _root(backend: Backend, image: Image) -> Path:
    root = agents_root(backend.paths, image.platform)
    with state_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(root.stat().st_mode | _EVERYBODY)  # the state directory above it is private
    return root


def _open_to_everybody(directory: Path) -> None:
    """Let the container's users, who are not ours, read what is in it. Its own mode says that this was done."""
    if directory.stat().st_mode & _EVERYBODY == _EVERYBODY:
        return
    for folder, _, names in os.walk(directory, topdown=False):
        for path in [Path(folder, name) for name in names]:
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o044 | (0o011 if mode & 0o100 else 0))
        Path(folder).chmod(Path(folder).stat().st_mode | _EVERYBODY)
