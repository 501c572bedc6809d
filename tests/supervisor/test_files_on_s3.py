"""Files on a volume that is an object store: what our own ways with files come down to there."""

from __future__ import annotations

import tarfile

import pytest

from agentctl import errors
from agentctl.supervisor.files.space import FileSpace
from agentctl.supervisor.files.tree import Files
from tests.supervisor.files_support import content, one, packed, tar
from tests.supervisor.s3_files import mounted


@pytest.fixture
def files(tmp_path):
    with mounted(tmp_path / "volume", tmp_path / "backing"):
        yield Files(FileSpace(str(tmp_path / "volume"), str(tmp_path / "volume")))


async def names(files, path="."):
    return [entry["name"] for entry in await files.entries(path)]


async def test_a_file_is_written_replaced_moved_and_removed(files):
    data = bytes(range(256)) * 8_000
    await files.write("a/b/file", one(data[:1_000_000], data[1_000_000:]), mode=0o750, size=len(data))
    assert await content(files, "a/b/file") == data
    await files.write("a/b/file", one(b"shorter"))
    assert await content(files, "a/b/file") == b"shorter"
    await files.move("a/b/file", "c")
    assert (await names(files, "a/b"), await content(files, "c")) == ([], b"shorter")
    await files.write("a/b/other", one(b"x"))
    await files.move("a", "moved")
    assert await content(files, "moved/b/other") == b"x"
    await files.delete("moved", recursive=True)
    assert await names(files) == ["c"]


async def test_a_write_that_breaks_off_leaves_what_was_there(files):
    await files.write("kept", one(b"as it was"))

    async def breaks():
        yield b"half of "
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await files.write("kept", breaks())
    assert await content(files, "kept") == b"as it was"
    assert await names(files) == ["kept"]


async def test_a_directory_goes_in_and_out_as_a_tar(files):
    await files.write("src/sub/x", one(b"x"))
    await files.unpack("copy", one(await packed(files, "src")))
    assert await content(files, "copy/sub/x") == b"x"
    await files.unpack("copy", one(await packed(files, "src")))
    assert await names(files, "copy") == ["sub"]


async def test_a_link_cannot_be_there_and_nothing_of_its_archive_is(files):
    with pytest.raises(errors.AgentctlError):
        await files.unpack("links", one(tar(("link", tarfile.SYMTYPE, "target"))))
    assert await names(files) == []
