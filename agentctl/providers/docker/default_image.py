"""The image that docker sandboxes are made from when none is named, built here from a Dockerfile of ours."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from agentctl import __version__
from agentctl.errors import AgentctlError, UsageError
from agentctl.providers.base import Progress, RuntimeBuild, RuntimeImage
from agentctl.providers.docker import pull
from agentctl.providers.docker.backend import Backend
from agentctl.providers.docker.build import build
from agentctl.providers.docker.context import Context
from agentctl.providers.docker.engine import Engine
from agentctl.providers.docker.trusted_build import trusting

TAG = f"{pull.OWN}runtime:{__version__}"
RECIPE = "agentctl.recipe"
ARGUMENTS = ("BASE", "NODE")
"""What of the Dockerfile can be chosen: the image that it stands on, and the one that it takes Node from."""

_PLACE = Path(__file__).parent / "image"
_HELP = (
    "The engine has to reach the registry of the base images, and Debian's packages. Name other bases with --build-arg "
    "BASE=IMAGE and NODE=IMAGE; behind a network that opens TLS add --ca-bundle FILE. Nothing of this build was kept."
)
_HOW = "Build it once: agentctl sandboxes build-runtime. Or name one that has Python 3.11 or newer: --image python:3.12"


async def name_of(engine: Engine) -> str:
    """The default image's name. Raise ``UsageError`` when there is none, naming what makes one."""
    if await pull.find(engine, TAG) is None:
        raise UsageError(
            f"No image was named for a docker sandbox, and the engine has no default one ({TAG}).",
            hint=f"{_HOW}, a --dockerfile, or `image` in the configuration.",
            details={"image": TAG, "engine": engine.url},
        )
    return TAG


async def make(backend: Backend, engine: Engine, request: RuntimeBuild, progress: Progress) -> RuntimeImage:
    """Build it, unless it was built already by the same recipe; see ``ImageProvider.build_runtime``."""
    unknown = sorted(set(request.arguments) - set(ARGUMENTS))
    if unknown:
        raise UsageError(
            f"The runtime's Dockerfile has no argument {unknown[0]}.", hint=f"It has {', '.join(ARGUMENTS)}."
        )
    tag = request.tag or TAG
    context = trusting(Context(_PLACE, "Dockerfile"), request.ca_bundle)
    recipe = sha256(json.dumps([context.digest(), request.arguments], sort_keys=True).encode()).hexdigest()[:16]
    before = await pull.find(engine, tag)
    if before is not None and not request.afresh and _labels(before).get(RECIPE) == recipe:
        return RuntimeImage(tag=tag, id=before["Id"], changed=False)
    await build(
        engine,
        context,
        tag,
        title="the default image",
        hint=_HELP,
        labels={**backend.installation_labels(), RECIPE: recipe},
        arguments=request.arguments,
        afresh=request.afresh,
        progress=progress,
    )
    about = await pull.find(engine, tag)
    assert about is not None, "it was just built"
    if before is not None and before["Id"] != about["Id"]:
        with suppress(AgentctlError):  # a sandbox may still run on it, and it may have another name
            await engine.call("remove the image of before", lambda api: api.remove_image(before["Id"]))
    return RuntimeImage(tag=tag, id=about["Id"], changed=True)


def _labels(about: dict[str, Any]) -> dict[str, str]:
    return (about.get("Config") or {}).get("Labels") or {}
