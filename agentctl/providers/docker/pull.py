"""Images that an engine does not have, fetched from their registry."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

from agentctl.errors import ImageNotFound, SandboxError, UsageError
from agentctl.providers.base import Progress
from agentctl.providers.docker.engine import Engine

Json = dict[str, Any]
OWN = "agentctl-"
"""So begin the names of images that agentctl builds: what a registry has under such a name is somebody else's."""

_SILENT_S = 600
_BAD_REQUEST, _NOT_FOUND = 400, 404
_REFUSED = (401, 403)


async def inspected(engine: Engine, name: str, progress: Progress) -> Json:
    """What the engine says of the image ``name``, which is pulled when it is missing. Raise ``ImageNotFound``."""
    about = await find(engine, name)
    if about is None:
        if _is_local_only(name):
            raise _missing(
                engine, name, "", "It is not one that a registry has: build it, or name another with --image."
            )
        await pull(engine, name, progress)
        about = await find(engine, name)
    if about is None:
        raise _missing(engine, name, "", "It was pulled, and somebody removed it at the same time. Do it again.")
    return about


async def find(engine: Engine, name: str) -> Json | None:
    """What the engine says of it; None when it has no such image. Raise ``UsageError`` for what cannot be a name."""
    return await engine.call(f"find the image {name}", lambda api: _find(api, name))


def _find(api: Any, name: str) -> Json | None:
    from docker import errors as sdk

    try:
        about: Json = api.inspect_image(name)
    except sdk.NotFound:
        return None
    except sdk.APIError as e:
        if e.status_code == _BAD_REQUEST:
            raise UsageError(f"{name!r} is not the name of an image: {e.explanation}") from e
        raise
    return about


def _is_local_only(name: str) -> bool:
    return name.startswith((OWN, "sha256:"))


async def pull(engine: Engine, name: str, progress: Progress) -> None:
    """Fetch it with the login that the docker command has. Raise ``ImageNotFound`` with what the engine said."""
    from agentctl.providers.docker import stream

    repository, tag = _parted(name)
    headers = await engine.call(f"pull the image {name}", lambda api: _login(api, repository))
    path = f"/images/create?{urlencode({'fromImage': repository, 'tag': tag})}"
    label, layers = f"Pulling {name}", _Layers()
    progress(label, None, None)
    try:
        async with aclosing(stream.lines(engine, path, headers=headers, silent_s=_SILENT_S)) as said:
            async for line in said:
                if "error" in line:
                    raise stream.Refused(0, str(line["error"]))
                layers.saw(line)
                progress(label, *layers.sums())
    except stream.Refused as e:
        raise _missing(engine, name, e.words, _hint(e.status, name)) from e
    except SandboxError as e:
        e.message = f"The image {name} could not be pulled: {e.message}"
        raise


def _parted(name: str) -> tuple[str, str]:
    """Without a tag an engine would fetch every one that there is."""
    repository, sign, digest = name.partition("@")
    if sign:
        return repository, digest
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "latest")


def _login(api: Any, repository: str) -> dict[str, str]:
    from docker import auth

    registry, _ = auth.resolve_repository_name(repository)
    header = auth.get_config_header(api, registry)
    return {"X-Registry-Auth": header.decode()} if header else {}


class _Layers:
    """How much of the layers that are known so far has come."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[int, int]] = {}

    def saw(self, line: Json) -> None:
        detail = line.get("progressDetail") or {}
        layer, whole = str(line.get("id")), detail.get("total")
        if line.get("status") == "Downloading" and isinstance(whole, int):
            self._of[layer] = (int(detail.get("current") or 0), whole)
        elif layer in self._of and line.get("status") != "Downloading":
            self._of[layer] = (self._of[layer][1], self._of[layer][1])

    def sums(self) -> tuple[int | None, int | None]:
        if not self._of:
            return None, None
        return sum(done for done, _ in self._of.values()), sum(whole for _, whole in self._of.values())


def _hint(status: int, name: str) -> str:
    if status == _NOT_FOUND or status in _REFUSED:
        return f"Check the name. If it is private, log in on this machine first (`docker login`): docker pull {name}"
    return (
        f"`docker pull {name}` would say the same: the Docker engine has to reach the registry, and a private one "
        "needs `docker login`. Or name an image that the engine has (`docker images`) with --image."
    )


def _missing(engine: Engine, name: str, said: str, hint: str) -> ImageNotFound:
    why = f", and it could not be pulled: {said}" if said else "."
    return ImageNotFound(
        f"The Docker engine has no image {name}{why}",
        hint=hint,
        details={"image": name, "engine": engine.url, "said": said},
    )
