"""Volumes and workspaces of a real Docker engine, through the ops: reached by a container that exists for a moment."""

from __future__ import annotations

import shutil

import pytest

from agentctl import errors
from agentctl.ops import session_end, sessions, volume_files, volumes, workspaces
from agentctl.ops.copy import Where, copy
from agentctl.providers.docker import images as docker_images
from tests.docker.support import clear, everything_of, installation
from tests.ops.support import say, spec
from tests.supervisor.files_support import content, one

pytestmark = pytest.mark.slow


@pytest.fixture
async def docker(app, docker_engine, docker_api, docker_image, monkeypatch):
    """The provider; nothing of its installation is left in the engine afterwards."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    provider = app.provider("docker")
    await docker_images.look(provider.engine(), app.paths, docker_image)
    yield provider
    clear(docker_api, installation(app.paths))


async def test_files_go_in_and_out_and_are_named_from_the_top_of_the_volume(app, docker, docker_api, tmp_path):
    await volumes.create(app, "models", provider="docker")
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/sub/x").write_text("x")
    source = Where(kind="host", path=str(tmp_path / "src"))
    done = await copy(app, source, Where.parse("volume:models/deep"), recursive=True)
    assert done["target"] == "volume:models/deep"
    async with volume_files.opened(app, "models") as files:
        assert [entry["path"] for entry in await files.entries("/deep/sub")] == ["deep/sub/x"]
        assert await content(files, "deep/sub/x") == b"x"
        assert await files.write("y", one(b"\xff\0")) == {"path": "y", "bytesWritten": 2}
        assert await files.move("y", "deep") == {"from": "y", "to": "deep/y"}
        with pytest.raises(errors.UsageError):
            await files.stat("../etc/passwd")
    await copy(app, Where.parse("volume:models/deep"), Where(kind="host", path=str(tmp_path / "back")), recursive=True)
    assert (tmp_path / "back/y").read_bytes() == b"\xff\0"
    containers, names = everything_of(docker_api, installation(app.paths))
    assert (containers, len(names)) == ([], 1)


async def test_a_volume_and_its_workspaces_are_listed_shown_and_deleted(app, docker, docker_api):
    volume = await volumes.create(app, "team", provider="docker")
    await volumes.create(app, "team")
    listed = [(v["name"], v["provider"], v["status"], v["path"] is None) for v in await volumes.listing(app)]
    assert listed == [("team", "docker", "ready", True), ("team", "unix_local", "ready", False)]
    assert (await volumes.find(app, "team")).provider == "unix_local"
    made = await workspaces.create(app, "shared", volume="team", provider="docker")
    assert (made["provider"], made["status"]) == ("docker", "ready")
    assert (await volumes.details(app, "team", "docker"))["workspaces"] == ["shared"]
    assert await workspaces.listing(app) == ([made], [])
    await workspaces.delete(app, "shared", volume="team", provider="docker")
    assert await workspaces.listing(app) == ([], [])
    await volumes.delete(app, volume)
    assert everything_of(docker_api, installation(app.paths)) == ([], [])


async def test_two_sessions_in_one_workspace_see_what_the_other_writes(app, docker, docker_image, tmp_path):
    how = {"provider": "docker", "image": docker_image, "workspace": "shared", "cwd": None}
    await workspaces.create(app, "shared", provider="docker")
    async with volume_files.opened(app, "default", "docker") as files:
        await files.write("workspaces/shared/brief.txt", one(b"from outside"))
    for name in ("one", "two"):
        await sessions.create(app, spec(tmp_path, **how), name=name)
    assert "from outside" in (await say(app, "one", '@sh!="cat ~/brief.txt"')).text
    await say(app, "one", '@sh!="echo heron > ~/note; echo more >> ~/brief.txt"')
    assert "heron" in (await say(app, "two", '@sh!="cat ~/note"')).text
    async with volume_files.opened(app, "default", "docker") as files:
        assert await content(files, "workspaces/shared/brief.txt") == b"from outsidemore\n"
        with pytest.raises(errors.InUse):
            await files.remove(["workspaces/shared"], recursive=True)
    with pytest.raises(errors.InUse):
        await workspaces.delete(app, "shared", provider="docker")
    await session_end.release(app, "two")
    assert "heron" in (await say(app, "two", '@sh!="cat ~/note"')).text
    for name in ("one", "two"):
        await session_end.delete(app, name)
    await workspaces.delete(app, "shared", provider="docker")


async def test_a_volume_that_no_image_is_known_for_is_told_and_deleted_all_the_same(app, docker, docker_api):
    shutil.rmtree(app.paths.docker / "images")
    volume = await volumes.create(app, "models", provider="docker")
    assert (await volumes.details(app, "models"))["workspaces"] is None
    found, closed = await workspaces.listing(app)
    assert (found, [(v["name"], v["status"]) for v in closed]) == ([], [("models", "unknown")])
    with pytest.raises(errors.SandboxError) as caught:
        await workspaces.create(app, "shared", volume="models")
    assert "build-runtime" in caught.value.hint
    await volumes.delete(app, volume)
    assert everything_of(docker_api, installation(app.paths)) == ([], [])


async def test_an_engine_that_is_gone_hides_no_volume(app, docker, monkeypatch):
    await volumes.create(app, "models", provider="docker")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")  # the SDK never closes a Unix socket that failed
    assert [about["status"] for about in await volumes.listing(app)] == ["unknown"]
    with pytest.raises(errors.ProviderUnavailable):
        await volumes.listing(app, "docker")
