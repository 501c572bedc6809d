"""What a sandbox is made from: a registry's image, a Dockerfile, an image that Modal has already (``im-…``)."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl.compute import Compute
from agentctl.errors import NotFound
from agentctl.providers.base import Progress
from agentctl.providers.modal.sdk import Sdk
from agentctl.providers.trees import make_private_directory, write_private

if TYPE_CHECKING:
    import modal

BUILD_S = 1800.0
BY_ID = "im-"
DEFAULT = "python:3.12"
"""The registry's: with git and curl. Agents bring their own Node."""


async def image_of(sdk: Sdk, name: str | None, compute: Compute, known: Path, progress: Progress) -> modal.Image:
    """The image, built where Modal does not have it yet. Raise ``InstallFailed`` when it cannot be built.

    ``known`` is a directory in which is kept what was built already: of that, Modal is asked nothing but whether it is
    still there.
    """
    if compute.dockerfile is not None:  # what it copies may have changed
        return await _built(sdk, name, compute, progress)
    note = known / _digest(name)
    if (image_id := _read(note)) is not None:
        try:
            return await _by_id(sdk, image_id)
        except NotFound:
            note.unlink(missing_ok=True)
    image = await _built(sdk, name, compute, progress)
    make_private_directory(known)
    write_private(note, image.object_id)
    return image


async def _built(sdk: Sdk, name: str | None, compute: Compute, progress: Progress) -> modal.Image:
    app = await sdk.app()
    progress("Building the image at Modal", None, None)
    image = _described(name, compute)
    built: modal.Image = await sdk.call("build the image", lambda _: image.build.aio(app), timeout_s=BUILD_S)
    return built


async def _by_id(sdk: Sdk, image_id: str) -> modal.Image:
    import modal

    app = await sdk.app()
    found: modal.Image = await sdk.call(
        f"find the image {image_id}", lambda client: modal.Image.from_id(image_id, client=client).build.aio(app)
    )
    return found


def _described(name: str | None, compute: Compute) -> modal.Image:
    """An entry point of the image's own would not be the supervisor."""
    import modal

    if compute.dockerfile is not None:
        path = Path(compute.dockerfile)
        return modal.Image.from_dockerfile(path, context_dir=path.parent).entrypoint([])
    if name is not None and name.startswith(BY_ID):
        return modal.Image.from_id(name)
    return modal.Image.from_registry(name or DEFAULT).entrypoint([])


def _digest(name: str | None) -> str:
    """Of an image's name, and of where it is known by that."""
    made_of: list[Any] = [name, os.environ.get("MODAL_ENVIRONMENT"), os.environ.get("MODAL_SERVER_URL")]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:20]


def _read(note: Path) -> str | None:
    try:
        return note.read_text()
    except FileNotFoundError:
        return None
