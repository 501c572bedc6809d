"""The supervisor's bundle for an image: compiled for its Python, and brought to where the engine is."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

from agentctl.errors import InstallFailed
from agentctl.paths import StatePaths
from agentctl.providers.bootstrap import compile_arguments, ensure_runtime, ensure_runtime_for
from agentctl.providers.docker.backend import ROLE
from agentctl.providers.docker.container import LAYOUT
from agentctl.providers.docker.engine import Engine
from agentctl.providers.docker.images import Image

_READABLE = 0o055
_COMPILE_S = 120


def runtime_for(paths: StatePaths, engine: Engine, image: Image) -> Path:
    """The unpacked bundle on this host. Blocks; a new one takes half a second.

    Where the image has another Python than we, it is the image's that compiles it. An engine elsewhere cannot: there
    the supervisor is compiled at each start, which costs 140 ms.
    """
    if image.cache_tag == sys.implementation.cache_tag or not engine.is_local:
        return ensure_runtime(paths)

    def compile_(new: Path, runtime: Path) -> None:
        engine.call_here("compile the supervisor", lambda api: _compile(api, image, new, runtime, engine.marks))

    return ensure_runtime_for(paths, image.cache_tag, compile_)


def _compile(api: Any, image: Image, new: Path, runtime: Path, marks: dict[str, str]) -> None:
    from docker.types import Mount

    host = api.create_host_config(
        mounts=[Mount(str(new), str(new), type="bind")],
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
    )
    compiler = api.create_container(
        image.id,
        entrypoint=[image.python],
        command=compile_arguments(new, runtime),
        user=f"{os.getuid()}:{os.getgid()}",
        labels={**marks, ROLE: "compiler"},
        host_config=host,
    )["Id"]
    try:
        api.start(compiler)
        if api.wait(compiler, timeout=_COMPILE_S)["StatusCode"] != 0:
            said = api.logs(compiler).decode(errors="replace").strip()
            raise InstallFailed(f"{image.python} of {image.name} could not prepare the supervisor: {said[-300:]}")
    finally:
        api.remove_container(compiler, force=True, v=True)


def readable(directory: Path) -> None:
    """Let everybody read what is in it: the container's users are not ours, and the way to it stays private. It says
    by its own mode that this was done."""
    if directory.stat().st_mode & _READABLE == _READABLE:
        return
    for root, _, names in os.walk(directory):
        for name in names:
            Path(root, name).chmod(0o644)
        if root != str(directory):
            Path(root).chmod(0o755)
    directory.chmod(0o755)


async def send_runtime(engine: Engine, container: str, runtime: Path) -> None:
    """Put it into a container whose engine does not see this host's files."""
    archive = _archive(runtime)
    await engine.call("send the supervisor", lambda api: api.put_archive(container, LAYOUT.runtime, archive))


def _archive(runtime: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(runtime, arcname=".", filter=_for_everybody)
    return buffer.getvalue()


def _for_everybody(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o755 if info.isdir() else 0o644
    return info
