"""What all of the docker provider stands on: the engines it knows, its directories on this host, its labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentctl import ids
from agentctl.errors import Conflict, SandboxError
from agentctl.model import Volume
from agentctl.paths import StatePaths
from agentctl.providers.base import LABELS_OF_VOLUMES, Endpoint
from agentctl.providers.docker.engine import Engine, engine_url

Json = dict[str, Any]
INSTALLATION = "agentctl.installation"
VOLUME = "agentctl.volume"
SANDBOX = "agentctl.sandbox"
PYTHON = "agentctl.python"
IMAGE = "agentctl.image"
NETWORK = "agentctl.network"
ATTEMPT = "agentctl.attempt"
USERS = "agentctl.label."
ROLE = "agentctl.role"
"""What a container beside the sandbox's own is for; the sandbox's own has no such label."""


class Backend:
    """``installation`` tells what one state directory has in an engine from what others have there."""

    name = "docker"

    def __init__(self, paths: StatePaths) -> None:
        self.paths = paths
        self.installation = hashlib.sha256(str(paths.root.resolve()).encode()).hexdigest()[:10]
        self._engines: dict[str, Engine] = {}

    def engine(self, url: str | None = None) -> Engine:
        """The one at ``url``, else the one that is meant now."""
        url = url or engine_url()
        return self._engines.setdefault(url, Engine(url, self.installation_labels()))

    def engine_of(self, volume: Volume) -> Engine:
        """Raise ``Conflict`` for a volume of another engine than the one that is meant now."""
        url = engine_url()
        if volume.handle["engine"] != url:
            raise Conflict(
                f"The volume {volume.name} lies on the Docker engine at {volume.handle['engine']}, not at {url}.",
                hint="Use another --volume, or set DOCKER_HOST to that engine.",
            )
        return self.engine(url)

    def run_dir(self, sandbox_id: str) -> Path:
        return self.paths.docker / "run" / sandbox_id

    def volume_labels(self, name: str, labels: Mapping[str, str]) -> dict[str, str]:
        """``labels`` may be those of a sandbox, of which a volume has some."""
        users = {f"{USERS}{key}": labels[key] for key in LABELS_OF_VOLUMES if key in labels}
        return {INSTALLATION: self.installation, VOLUME: name, **users}

    def installation_labels(self) -> dict[str, str]:
        return {INSTALLATION: self.installation}

    async def endpoint_of(self, engine: Engine, container: str, python: str, name: str) -> Endpoint:
        """The door to the supervisor of a running container, as it was found to be reached."""
        from agentctl.providers.docker.bridge import bridge
        from agentctl.providers.docker.socket import dial_socket

        if self.door_kind(name) == "unix":
            socket = self.run_dir(name) / "door" / "sock"
            return Endpoint(dial=lambda: dial_socket(socket))
        return Endpoint(dial=lambda: bridge(engine, container, python))

    def door_kind(self, name: str) -> str:
        try:
            return (self.run_dir(name) / "door.kind").read_text()
        except FileNotFoundError:
            return "exec"

    def own_label(self) -> str:
        return f"{INSTALLATION}={self.installation}"


def sandbox_id_of(handle: Json) -> str:
    sandbox_id = handle["sandbox"]
    if not ids.is_name(sandbox_id):
        raise SandboxError(f"{sandbox_id!r} is not the id of a sandbox.")
    return str(sandbox_id)


async def remove_labelled(engine: Engine, label: str) -> None:
    """Remove every container that bears ``label``, the volumes that it left, then every network."""

    def remove_all(api: Any) -> None:
        for about in api.containers(all=True, filters={"label": label}):
            remove_container(api, about["Id"])
        sweep_volumes(api, label)
        remove_networks(api, label)

    await engine.call("clear up", remove_all)


def remove_container(api: Any, container_id: str) -> None:
    """Its anonymous volumes go with it. That it is gone already is as good."""
    from docker import errors as sdk

    with suppress(sdk.NotFound):
        api.remove_container(container_id, force=True, v=True)


def sweep_volumes(api: Any, label: str) -> None:
    """What somebody left who removed a container, but not its volumes."""
    from docker import errors as sdk

    for about in api.volumes(filters={"label": label})["Volumes"] or ():
        with suppress(sdk.NotFound):
            api.remove_volume(about["Name"])


def remove_networks(api: Any, label: str) -> None:
    """Remove every network that bears ``label``. A stranger's container on one is taken off it; one that is gone is
    as good."""
    from docker import errors as sdk

    for about in api.networks(filters={"label": label}):
        with suppress(sdk.NotFound):
            for container in api.inspect_network(about["Id"])["Containers"] or {}:
                api.disconnect_container_from_network(container, about["Id"], force=True)
            api.remove_network(about["Id"])
