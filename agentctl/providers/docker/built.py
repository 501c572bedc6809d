"""Images of the user's own Dockerfiles (``--dockerfile``), each built once: its name says of what."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agentctl.compute import Compute
from agentctl.errors import UsageError
from agentctl.providers.base import Progress
from agentctl.providers.docker import pull
from agentctl.providers.docker.backend import Backend
from agentctl.providers.docker.build import build
from agentctl.providers.docker.context import Context
from agentctl.providers.docker.engine import Engine
from agentctl.providers.docker.trusted_build import trusting


async def name_of(compute: Compute) -> str:
    """The name of the image that the Dockerfile and all beside it give now. Raise ``UsageError``."""
    return await asyncio.to_thread(_name, _context(compute))


async def ensure(backend: Backend, engine: Engine, name: str | None, compute: Compute, progress: Progress) -> str:
    """Build it when it is missing, and return its name. An image that is there under ``name`` was built of what the
    Dockerfile was then, and is taken without a look at the files. Raise ``UsageError``, ``ImageBuildFailed``."""
    if name is not None and await pull.find(engine, name) is not None:
        return name
    context = _context(compute)
    name = await asyncio.to_thread(_name, context)
    if await pull.find(engine, name) is None:
        title, labels = f"an image from {compute.dockerfile}", backend.installation_labels()
        await build(engine, context, name, title=title, labels=labels, progress=progress)
    return name


def _context(compute: Compute) -> Context:
    assert compute.dockerfile is not None
    path = Path(compute.dockerfile)
    if not path.is_file():
        raise UsageError(f"The Dockerfile {path} is gone.", hint="Put it back: the image has to be built again.")
    return trusting(Context(path.parent, path.name), compute.ca_bundle)


def _name(context: Context) -> str:
    return f"{pull.OWN}{context.digest()}:latest"
