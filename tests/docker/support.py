"""What tests do to a Docker engine behind the provider's back."""

from __future__ import annotations

import io
import tarfile
from pathlib import PurePosixPath

from docker import errors as sdk
from docker.types import Mount

from agentctl.providers.docker.backend import Backend, remove_networks


class VolumeFiles:
    """Files of docker volumes, written and read through a container that is never started."""

    def __init__(self, api, image):
        self._api = api
        self._image = image

    def write(self, volume, relative, text, owner=1000):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for parent in reversed([str(p) for p in PurePosixPath(relative).parents][:-1]):
                info = tarfile.TarInfo(parent)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            info = tarfile.TarInfo(relative)
            info.size, info.uid, info.gid = len(text.encode()), owner, owner
            tar.addfile(info, io.BytesIO(text.encode()))
        self._on_shelf(volume, lambda shelf: self._api.put_archive(shelf, "/volume", archive.getvalue()))

    def read(self, volume, relative):
        """The text of a file, None when it is not there."""

        def get(shelf):
            try:
                chunks, _ = self._api.get_archive(shelf, f"/volume/{relative}")
            except sdk.NotFound:
                return None
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
                return tar.extractfile(tar.next()).read().decode()

        return self._on_shelf(volume, get)

    def _on_shelf(self, volume, work):
        mounts = [Mount("/volume", volume.handle["volume"], type="volume", no_copy=True)]
        host = self._api.create_host_config(mounts=mounts, network_mode="none")
        shelf = self._api.create_container(self._image, command=["true"], host_config=host)["Id"]
        try:
            return work(shelf)
        finally:
            self._api.remove_container(shelf, force=True)


class PlainFiles:
    """The same for volumes that are directories of this host: ``place`` tells where a volume's file is."""

    def __init__(self, place):
        self._place = place

    def write(self, volume, relative, text):
        path = self._place(volume, relative)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, volume, relative):
        path = self._place(volume, relative)
        return path.read_text() if path.exists() else None


def installation(paths):
    return Backend(paths).installation


def clear(api, installation):
    """Remove all that an installation has in the engine."""
    wanted = {"label": f"agentctl.installation={installation}"}
    for about in api.containers(all=True, filters=wanted):
        api.remove_container(about["Id"], force=True, v=True)
    for about in api.volumes(filters=wanted)["Volumes"] or ():
        api.remove_volume(about["Name"])
    remove_networks(api, wanted["label"])


def everything_of(api, installation):
    """Names of all containers (with networks) and volumes that an installation has in the engine: nothing, after a
    failed create."""
    wanted = {"label": f"agentctl.installation={installation}"}
    containers = [name for about in api.containers(all=True, filters=wanted) for name in about["Names"]]
    containers += [about["Name"] for about in api.networks(filters=wanted)]
    volumes = [about["Name"] for about in api.volumes(filters=wanted)["Volumes"] or ()]
    return containers, volumes
