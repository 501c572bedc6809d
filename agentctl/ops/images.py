"""What sandboxes are made from, for providers that make them from images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from agentctl.errors import Unsupported
from agentctl.model import SessionSpec

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.providers.base import ImageProvider, RuntimeBuild, RuntimeImage


async def settled(app: App, spec: SessionSpec) -> SessionSpec:
    """The spec with the image that its Dockerfile gives as it is now, so that the session keeps what it began with.
    Nothing is pulled or built. Raise ``UsageError`` where there is no image to make a sandbox from, and for a CA bundle
    that is none."""
    provider = app.provider(spec.provider)
    if spec.sandbox is not None or not provider.capabilities.machines:
        return spec
    able = cast("ImageProvider", provider)
    return replace(spec, image=await able.check_image(spec.image, spec.compute))


async def build_runtime(app: App, provider_name: str, request: RuntimeBuild) -> RuntimeImage:
    """Build the provider's default image. Raise ``Unsupported`` for a provider that has none to be built, and what the
    build raises; there is none of it then."""
    provider = app.provider(provider_name)
    if not provider.capabilities.machines:
        raise Unsupported(
            f"The provider {provider_name} has no runtime image to be built.", hint="docker has: --provider docker."
        )
    await provider.check()
    try:
        return await cast("ImageProvider", provider).build_runtime(request, app.progress)
    finally:
        app.progress("", None, None)
