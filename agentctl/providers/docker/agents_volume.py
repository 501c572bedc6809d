"""Agents for sandboxes of an engine elsewhere: a volume for each platform, to which a tree is sent once.

A tree lies at a path that names its content. It is sent beside that under another name and renamed when it is whole, so
that what is at the path is whole, however a sender died. What this host has sent is kept in
``<state>/docker/agents/<volume>.json``, under the birth of the volume: it is not asked again.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import tarfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import IO, Any

from agentctl.agents.npm import size_of
from agentctl.errors import SandboxError
from agentctl.providers.base import Progress
from agentctl.providers.docker import shelf, stream
from agentctl.providers.docker.backend import ATTEMPT, ROLE, Backend, remove_labelled
from agentctl.providers.docker.engine import Engine
from agentctl.providers.docker.images import Image
from agentctl.providers.finish import finished
from agentctl.providers.trees import make_private_directory, write_private

PLATFORM, BIRTH = "agentctl.agents", "agentctl.birth"
"""Labels; who makes a volume again that is there already does not change them."""

_SILENT_S = 600
_NEW = ".new"
_FINISH = """
import os, shutil, sys, time
new, path = sys.argv[1:]
os.makedirs(os.path.dirname(path), exist_ok=True)
try:
    os.rename(new, path)
except OSError:
    if not os.path.isdir(path):
        raise
    shutil.rmtree(new)
for left in os.scandir(os.path.dirname(new)):
    if left.stat(follow_symlinks=False).st_ctime < time.time() - 86400:
        shutil.rmtree(left.path, ignore_errors=True)
"""
"""Where another sender was faster, its tree stays. What a sender that died left goes when it is a day old."""


async def ensure(backend: Backend, engine: Engine, image: Image) -> str:
    """The name of the volume for the image's platform, which is there afterwards."""
    return str((await _volume(backend, engine, image))["Name"])


async def _volume(backend: Backend, engine: Engine, image: Image) -> dict[str, Any]:
    name = f"agentctl-agents-{backend.installation}-{image.platform}"
    labels = {**backend.installation_labels(), PLATFORM: image.platform, ROLE: "agents", BIRTH: secrets.token_hex(8)}
    about: dict[str, Any] = await engine.call(
        "make the volume of agents", lambda api: api.create_volume(name, labels=labels)
    )
    return about


async def send(backend: Backend, engine: Engine, image: Image, directory: Path, key: str, progress: Progress) -> None:
    """Have ``directory`` at ``key`` in the volume. On any error nothing is at ``key`` that is not whole."""
    about = await _volume(backend, engine, image)
    note = backend.paths.docker / "agents" / f"{about['Name']}.json"
    sent = _sent(note, about)
    if key in sent:
        return
    await _put(backend, engine, image, about["Name"], directory, key, progress)
    make_private_directory(note.parent)
    sent = _sent(note, about)
    write_private(note, json.dumps({_birth(about): sorted({*sent, key})}))


def _birth(about: dict[str, Any]) -> str:
    return str(about["Labels"][BIRTH])


def _sent(note: Path, about: dict[str, Any]) -> list[str]:
    try:
        kept: list[str] = json.loads(note.read_text()).get(_birth(about), [])
    except (OSError, ValueError, AttributeError):
        return []
    return kept


async def _put(
    backend: Backend, engine: Engine, image: Image, volume: str, directory: Path, key: str, progress: Progress
) -> None:
    label = secrets.token_hex(8)
    new = f"{shelf.PLACE}/{_NEW}/{label}"
    command = ["-IS", "-c", _FINISH, new, f"{shelf.PLACE}/{key}"]
    labels = {**backend.installation_labels(), ATTEMPT: label, ROLE: "agents"}
    try:
        sender = await engine.call(
            "make a container to send agents", lambda api: _make_sender(api, image, volume, command, labels)
        )
        await _send_tree(engine, sender, directory, new, key, progress)
        code, said = await engine.call("keep what was sent", lambda api: _run(api, sender))
    finally:
        await finished(remove_labelled(engine, f"{ATTEMPT}={label}"))
    if code != 0:
        raise SandboxError(f"{key} could not be kept in the volume {volume}: {said.strip()[-300:]}")


def _make_sender(api: Any, image: Image, volume: str, command: list[str], labels: dict[str, str]) -> str:
    from docker.types import Mount

    host = api.create_host_config(
        mounts=[Mount(shelf.PLACE, volume, type="volume", no_copy=True)],
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
    )
    made = api.create_container(
        image.id, entrypoint=[image.python], command=command, user="0:0", labels=labels, host_config=host
    )
    return str(made["Id"])


async def _send_tree(
    engine: Engine, container: str, directory: Path, target: str, key: str, progress: Progress
) -> None:
    whole = await asyncio.to_thread(size_of, directory)

    async def counted() -> AsyncGenerator[bytes, None]:
        sent = 0
        async with aclosing(stream.written(lambda file: _write_tar(file, directory, target))) as content:
            async for chunk in content:
                sent += len(chunk)
                progress(f"Sending {key} to the Docker engine", min(sent, whole), whole)
                yield chunk

    path = f"/containers/{container}/archive?path=/"
    headers = {"Content-Type": "application/x-tar"}
    answer = stream.chunks(engine, "PUT", path, headers=headers, body=counted(), silent_s=_SILENT_S)
    async with aclosing(answer):
        async for _ in answer:
            pass


def _write_tar(file: IO[bytes], directory: Path, target: str) -> None:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        tar.add(directory, arcname=target.lstrip("/"), filter=_for_everybody)


def _for_everybody(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode |= 0o055 if info.isdir() or info.mode & 0o100 else 0o044
    return info


def _run(api: Any, container: str) -> tuple[int, str]:
    api.start(container)
    code: int = api.wait(container, timeout=_SILENT_S)["StatusCode"]
    return code, "" if code == 0 else api.logs(container).decode(errors="replace")
