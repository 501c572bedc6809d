"""What has to be known of an image before a supervisor can run in it; asked of the image itself, once.

Kept in ``<state>/docker/images/<image id>.json``: an image's content never changes under its id.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Any

from agentctl.agents import platform
from agentctl.compute import Compute
from agentctl.errors import ImageNotFound, SandboxError, UsageError
from agentctl.frozen import frozen
from agentctl.paths import StatePaths
from agentctl.providers.base import Progress, quiet
from agentctl.providers.docker import pull
from agentctl.providers.docker.backend import ROLE, Backend
from agentctl.providers.docker.engine import Engine
from agentctl.providers.trees import make_private_directory, write_private

Json = dict[str, Any]
OLDEST_PYTHON = (3, 11)
_PROBE_S = 60
_PROBE = """
import json, os, platform, shutil, subprocess, sys
known = {"python": sys.executable, "version": list(sys.version_info[:3]), "cache_tag": sys.implementation.cache_tag}
known["libc"] = "glibc" if platform.libc_ver()[0] == "glibc" else "musl"
node = shutil.which("node")
try:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20).stdout if node else ""
except (OSError, subprocess.SubprocessError):
    said = ""
known["node"], known["node_version"] = (node, said.strip()[1:]) if said.startswith("v") else (None, None)
print(json.dumps({**known, "machine": os.uname().machine}))
"""
_ROOTS = """
import os, ssl, sys
known = ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt"]
for path in [os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *known]:
    if path and os.path.isfile(path):
        sys.stdout.write(open(path, encoding="utf-8", errors="replace").read())
        break
"""


@frozen
class Image:
    """``id`` is the engine's; ``env`` what the image sets; ``python`` and ``node`` are paths in it."""

    id: str
    name: str
    python: str
    version: list[int]
    cache_tag: str
    libc: str
    machine: str
    node: str | None = None
    node_version: str | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def platform(self) -> str:
        """As npm names it."""
        return platform.name_of("linux", self.machine, musl=self.libc == "musl")


async def look(engine: Engine, paths: StatePaths, name: str, progress: Progress = quiet) -> Image:
    """The image of that name, pulled when it is missing. Raise ``ImageNotFound``, or ``UsageError`` for one in which no
    supervisor can run."""
    about = await pull.inspected(engine, name, progress)
    config = about["Config"] or {}
    env = dict(line.split("=", 1) for line in config.get("Env") or () if "=" in line)
    known = _known(paths, about["Id"]) or await _probe(engine, paths, about["Id"], name)
    return Image(id=about["Id"], name=name, env=env, **known)


async def ready(backend: Backend, engine: Engine, name: str | None, compute: Compute, progress: Progress) -> Image:
    """The image of a sandbox of that spec, built or pulled when it is missing. Raise as ``ImageProvider.machine``."""
    if compute.dockerfile is not None:
        from agentctl.providers.docker import built

        name = await built.ensure(backend, engine, name, compute, progress)
    elif name is None:
        from agentctl.providers.docker import default_image

        name = await default_image.name_of(engine)
    return await look(engine, backend.paths, name, progress)


async def roots(engine: Engine, paths: StatePaths, image: Image) -> str | None:
    """The certificates that the image trusts, as PEM; None where they are not to be found."""
    kept = _place(paths) / f"{_digest(image.id)}.pem"
    if not kept.exists():
        code, said = await engine.call(
            "read the image's certificates", lambda api: _ask(api, image.id, _ROOTS, engine.marks)
        )
        make_private_directory(kept.parent)
        write_private(kept, said if code == 0 else "")
    return kept.read_text() or None


async def any_known(engine: Engine, paths: StatePaths) -> Image:
    """An image that is there and has Python, to work on a volume with: the one that was looked at last, else the
    default one. None is pulled or built for that."""
    for path in sorted(_place(paths).glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        known = _known(paths, f"sha256:{path.stem}")
        if known is not None:
            try:
                return await look(engine, paths, f"sha256:{path.stem}")
            except ImageNotFound:
                continue
    from agentctl.providers.docker import default_image

    with suppress(UsageError):
        return await look(engine, paths, await default_image.name_of(engine))
    raise SandboxError(
        "A Docker volume can only be worked on with an image that has Python 3.11 or newer, and none is known here.",
        hint="Build the default one, which takes a minute: agentctl sandboxes build-runtime. "
        "Or bring up any sandbox once: agentctl run --provider docker --image python:3.12 MESSAGE",
    )


def _place(paths: StatePaths) -> Path:
    return paths.docker / "images"


def _known(paths: StatePaths, image_id: str) -> Json | None:
    try:
        known: Json = json.loads((_place(paths) / f"{_digest(image_id)}.json").read_text())
    except (OSError, ValueError):
        return None
    return known if set(known) == set(Image.__dataclass_fields__) - {"id", "name", "env"} else None


def _digest(image_id: str) -> str:
    return image_id.rpartition(":")[2]


async def _probe(engine: Engine, paths: StatePaths, image_id: str, name: str) -> Json:
    code, said = await engine.call(f"look into the image {name}", lambda api: _ask(api, image_id, _PROBE, engine.marks))
    if code != 0:
        raise UsageError(
            f"The image {name} has no python3 that runs, and the supervisor needs Python 3.11 or newer.",
            hint="Install Python in the image, or name another with --image.",
            details={"image": name, "said": said[-500:]},
        )
    known: Json = json.loads(said.strip().splitlines()[-1])
    if tuple(known["version"][:2]) < OLDEST_PYTHON:
        version = ".".join(str(part) for part in known["version"])
        raise UsageError(
            f"The image {name} has Python {version}; the supervisor needs 3.11 or newer.",
            hint="Name another image with --image.",
            details={"image": name, "python": version},
        )
    make_private_directory(_place(paths))
    write_private(_place(paths) / f"{_digest(image_id)}.json", json.dumps(known))
    return known


def _ask(api: Any, image_id: str, script: str, marks: dict[str, str]) -> tuple[int, str]:
    """The exit code and the output of a probe; one that cannot even be started has ``-1``."""
    from docker import errors as sdk

    host = api.create_host_config(network_mode="none", cap_drop=["ALL"], security_opt=["no-new-privileges:true"])
    probe = api.create_container(
        image_id,
        entrypoint=["python3"],
        command=["-IS", "-c", script],
        host_config=host,
        labels={**marks, ROLE: "probe"},
    )["Id"]
    try:
        api.start(probe)
        code = api.wait(probe, timeout=_PROBE_S)["StatusCode"]
        return code, api.logs(probe).decode(errors="replace")
    except sdk.APIError as e:
        if e.status_code is not None and e.status_code < 500:  # 400: it has no such program
            return -1, str(e.explanation)
        raise
    finally:
        api.remove_container(probe, force=True, v=True)
