"""The files of a volume with no sandbox alive: ``volume_files`` and ``workspace_remove`` of every provider."""

from __future__ import annotations

import contextlib
import os
import time

import pytest

from agentctl import errors
from agentctl.providers.base import FilesDoor
from agentctl.supervisor_client import SupervisorClient
from agentctl.supervisor_client.files import FilesClient
from tests.docker.support import everything_of, installation
from tests.supervisor.files_support import content, one, packed


@pytest.fixture
async def volume(request, provider, paths):
    """A volume with nothing on it."""
    if provider.name == "docker":
        from agentctl.providers.docker import images as docker_images

        await docker_images.look(provider.engine(), paths, request.getfixturevalue("docker_image"))
    return await provider.volume_create("data")


@contextlib.asynccontextmanager
async def opened(provider, volume):
    """The files, whichever way they are reached."""
    async with provider.volume_files(volume) as found:
        if not isinstance(found, FilesDoor):
            yield found
            return
        async with SupervisorClient(found.endpoint, found.token) as client:
            yield FilesClient(client, found.root)


async def test_files_are_written_read_moved_removed_and_packed_byte_for_byte(provider, volume):
    data = bytes(range(256)) * 20_000
    async with opened(provider, volume) as files:
        assert await files.entries(".") == []
        await files.write("a/b/blob", one(data[:3_000_000], data[3_000_000:]), mode=0o750, size=len(data))
        assert await content(files, "a/b/blob") == data
        assert (await files.stat("a/b/blob"))["mode"] == "0750"
        await files.move("a/b/blob", "c")
        assert [entry["name"] for entry in await files.entries(".")] == ["a", "c"]
        await files.delete("a", recursive=True)
    async with opened(provider, volume) as files:
        assert [entry["name"] for entry in await files.entries(".")] == ["c"]
        await files.write("src/sub/x", one(b"x"))
        await files.unpack("copy", one(await packed(files, "src")))
        assert await content(files, "copy/sub/x") == b"x"


async def test_a_path_or_a_link_that_leads_out_is_refused(provider, volume, files):
    async with opened(provider, volume) as opened_files:
        await opened_files.write("inside", one(b"x"))
        await opened_files.unpack("links", one(_links()))
        top = (await opened_files.stat("."))["path"]
        for path in ("../x", "/etc/passwd", f"{top}/../x", "links/absolute/passwd", "links/up/x"):
            with pytest.raises((errors.UsageError, errors.PathNotFound)) as refused:
                await opened_files.write(path, one(b"escaped"))
            assert isinstance(refused.value, errors.UsageError), path
        with pytest.raises(errors.UsageError):
            await opened_files.move("inside", "links/absolute/moved")
        assert await content(opened_files, "inside") == b"x"


def _links():
    """A tar of two links: ``absolute`` leads to /etc, ``up`` to above the volume."""
    import tarfile

    from tests.supervisor.files_support import tar

    return tar(("absolute", tarfile.SYMTYPE, "/etc"), ("up", tarfile.SYMTYPE, "../../.."))


async def test_a_sandbox_finds_in_its_home_what_was_put_there_and_may_change_it(provider, create, spec_of, files):
    spec = spec_of()
    await provider.remove(await create(spec))
    async with opened(provider, spec.volume) as opened_files:
        await opened_files.write(f"{spec.home}/brief.txt", one(b"from outside"))
        if provider.name != "daytona":  # its volumes have no modes
            assert (await opened_files.stat(spec.home))["mode"] == "0700"
    assert files.read(spec.volume, f"{spec.home}/brief.txt") == "from outside"


async def test_what_a_missing_volume_has_is_not_found(provider, volume):
    await provider.volume_remove(volume)
    with pytest.raises(errors.VolumeNotFound) as missing:
        async with opened(provider, volume):
            pass
    assert "volumes delete data" in missing.value.hint
    assert await provider.volume_list() == []


async def test_two_at_once_see_the_same_files_and_a_block_that_fails_leaves_nothing_but_what_was_written(
    request, provider, volume, paths
):
    async def fails(second):
        async with opened(provider, volume) as files:
            await files.write("x", one(b"kept"))
            assert await content(second, "x") == b"kept"
            raise ZeroDivisionError

    async with opened(provider, volume) as second:
        with pytest.raises(ZeroDivisionError):
            await fails(second)
        assert await content(second, "x") == b"kept"
    if provider.name == "docker":
        containers, volumes = everything_of(request.getfixturevalue("docker_api"), installation(paths))
        assert (containers, len(volumes)) == ([], 1)
        assert list((paths.docker / "run").iterdir()) == []


async def test_a_workspace_is_removed_with_all_in_it_and_nothing_else(provider, volume):
    async with opened(provider, volume) as files:
        for path in ("workspaces/one/deep/x", "workspaces/two/x", "agents/ses_1/home/x"):
            await files.write(path, one(b"x"))
    await provider.workspace_remove(volume, "one")
    await provider.workspace_remove(volume, "one")
    for name in ("../agents", "", "..", "a/b"):
        with pytest.raises(errors.UsageError):
            await provider.workspace_remove(volume, name)
    async with opened(provider, volume) as files:
        assert [entry["name"] for entry in await files.entries("workspaces")] == ["two"]
        assert await content(files, "agents/ses_1/home/x") == b"x"


@pytest.mark.slow
async def test_a_large_file_goes_both_ways_at_little_cost(provider, volume):
    """In this process' own time, which does not depend on what else the machine does: 50 MB/s at the least."""
    size = 60_000_000
    chunk = os.urandom(1_000_000)
    async with opened(provider, volume) as files:
        began = time.process_time()
        await files.write("large", one(*[chunk] * (size // len(chunk))), size=size)
        written = time.process_time()
        async with files.read("large") as reading:
            read = sum([len(part) async for part in reading.chunks])
        took = (written - began, time.process_time() - written)
    print([f"{size / 1e6 / seconds:.0f} MB/s" for seconds in took])
    assert read == size
    assert max(took) < size / 50e6
