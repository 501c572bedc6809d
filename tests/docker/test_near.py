"""Directories of volumes: made and deleted in place, where we may, with the same outcome as through a container."""

from __future__ import annotations

import os
import time

import pytest

from agentctl import errors
from agentctl.providers.docker import near, shelf
from agentctl.providers.lookup import open_sweep
from tests.docker.support import VolumeFiles, everything_of


@pytest.mark.parametrize("way", ["in place", "through a container"])
async def test_directories_are_made_and_deleted_either_way(
    way, provider, create, spec_of, docker_api, docker_image, monkeypatch
):
    spec = spec_of()
    mountpoint = docker_api.inspect_volume(spec.volume.handle["volume"])["Mountpoint"]
    assert near.place(provider.engine(), mountpoint) is not None, "the tests' engine is of this machine"
    if way != "in place":
        monkeypatch.setattr(near, "place", lambda engine, mountpoint: None)
    handle = await create(spec)
    found = {name: os.stat(os.path.join(mountpoint, name)) for name in ("agents", "agents/ses_1", spec.home, spec.log)}
    assert {(one.st_uid, one.st_gid) for one in found.values()} == {(1000, 1000)}
    assert [oct(one.st_mode & 0o777) for one in found.values()] == ["0o755", "0o755", "0o700", "0o700"]
    await provider.remove(handle)
    VolumeFiles(docker_api, docker_image).write(spec.volume, "workspaces/kept/file", "text")
    assert await written_at(provider, spec.volume) == pytest.approx(time.time(), abs=600)
    assert await provider.session_remove(spec.volume, "ses_1") is False
    assert not os.path.exists(os.path.join(mountpoint, "agents/ses_1"))
    await provider.workspace_remove(spec.volume, "kept")
    assert everything_of(docker_api, provider.installation)[0] == []


async def written_at(provider, volume):
    """As ``cleanup-orphans`` is told it of a volume of another state directory's."""
    sweeper = open_sweep("docker", provider.paths)
    [found] = [one async for one in sweeper.leftovers("") if one.kind == "volume" and one.id == volume.handle["volume"]]
    return await sweeper._written_at(sweeper.engine(), found)


def test_no_symbolic_link_leads_out_of_a_volume(tmp_path):
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (outside / "home").mkdir(parents=True)
    (outside / "home" / "file").write_text("kept")
    (volume / "agents").mkdir(parents=True)
    (volume / "agents" / "ses_1").symlink_to(outside)
    with pytest.raises(errors.SandboxError):
        near.make_directories(volume, [shelf.Directory("agents/ses_1/home", 0o700, os.getuid())])
    with pytest.raises(errors.SandboxError):
        near.delete_tree(volume, "agents/ses_1/home")
    assert near.delete_tree(volume, "agents/ses_1"), "the link itself goes"
    assert (outside / "home" / "file").read_text() == "kept"
    assert (outside.stat().st_uid, outside.stat().st_mode & 0o777) == (os.getuid(), 0o755)


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:1", "unix:///nowhere/docker.sock"])
def test_an_engine_of_which_nothing_is_known_is_not_near(url, tmp_path):
    from agentctl.providers.docker.engine import Engine

    assert near.place(Engine(url), str(tmp_path)) is None
