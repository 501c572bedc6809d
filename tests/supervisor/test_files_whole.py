"""All or nothing: broken uploads, full disks, hostile archives, and directories that must not be left."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile

import pytest

from agentctl import errors
from agentctl.supervisor.files import space as files_space
from agentctl.supervisor.files import write as files_write
from agentctl.supervisor.files.pack import failure
from agentctl.supervisor.files.space import FileSpace
from agentctl.supervisor.files.tar import MAX_EXTENDED_BYTES
from agentctl.supervisor.files.tree import Files
from agentctl.supervisor.files.write import NewFile
from tests.supervisor.files_support import content, files, left_in, one, packed, tar
from tests.supervisor.support import TOKEN, supervisor

can_mount = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="a small file system is mounted, which takes root on Linux"
)


@pytest.fixture
def small_disk(project):
    """A file system of 2 MiB."""
    place = project / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@contextlib.asynccontextmanager
async def begun_upload(running, route, sent: bytes, length: int):
    """A request that has sent a part of its body; the connection is cut at the end."""
    reader, writer = await asyncio.open_unix_connection(running.socket)
    head = f"{route} HTTP/1.1\r\nHost: x\r\nX-Agentctl-Token: {TOKEN}\r\nContent-Length: {length}\r\n"
    writer.write(head.encode() + b"Content-Type: application/x-tar\r\n\r\n" + sent)
    await writer.drain()
    try:
        yield reader
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def open_files(pid) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


async def test_a_put_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path, project):
    (project / "a").write_text("old")
    async with supervisor(tmp_path) as running:

        def is_open():
            return any(name.startswith(str(project)) for name in open_files(running.process.pid))

        async with begun_upload(running, f"PUT /v1/fs/file?path={project}/a", b"x" * 3_000_000, 10_000_000):
            await until(is_open)
            assert left_in(project) == ["a"]
        await until(lambda: not is_open())
    assert (project / "a").read_text() == "old"
    assert left_in(project) == ["a"]


async def test_a_supervisor_killed_in_mid_put_leaves_nothing_of_it(tmp_path, project):
    async with supervisor(tmp_path) as running:
        route = f"PUT /v1/fs/file?path={project}/a"
        async with begun_upload(running, route, b"x" * 3_000_000, 10_000_000):
            await until(lambda: any(name.startswith(str(project)) for name in open_files(running.process.pid)))
            running.process.send_signal(signal.SIGKILL)
            await running.process.wait()
    assert left_in(project) == []


async def test_an_archive_that_breaks_off_leaves_nothing(tmp_path, project):
    archive = tar(("a", b"a" * 2_000_000), ("b", b"b"))
    async with supervisor(tmp_path) as running:
        route = f"POST /v1/fs/upload-batch?path={project}/new"
        async with begun_upload(running, route, archive[:1_500_000], len(archive)):
            await until(lambda: left_in(project))
        await until(lambda: not left_in(project))


@can_mount
async def test_a_full_disk_in_mid_upload_is_said_and_leaves_nothing(tmp_path, small_disk):
    (small_disk / "a").write_text("old")
    async with files(tmp_path) as (fs, _):
        with pytest.raises(errors.DiskFull, match="small/a"):
            await fs.write("small/a", one(*[b"x" * 1_000_000] * 30))
        assert left_in(small_disk) == ["a"]
        assert await content(fs, "small/a") == b"old"
        with pytest.raises(errors.DiskFull):
            await fs.unpack("small/d", one(tar(*((f"{n}", b"x" * 500_000) for n in range(20)))))
        with pytest.raises(errors.DiskFull):
            await fs.edit("small/a", "old", "x" * 4_000_000)
        assert left_in(small_disk) == ["a"]
        await fs.write("small/b", one(b"x" * 1_000_000))
    assert (small_disk / "a").read_text() == "old"


async def test_two_puts_at_once_leave_one_of_the_two_whole(tmp_path, project):
    one_, other = b"1" * 3_000_000, b"2" * 3_000_000
    async with files(tmp_path) as (fs, _):
        await asyncio.gather(fs.write("a", one(*[one_[:1_000_000]] * 3)), fs.write("a", one(*[other[:1_000_000]] * 3)))
    assert (project / "a").read_bytes() in (one_, other)
    assert left_in(project) == ["a"]


async def test_an_edit_of_a_file_that_changes_meanwhile_is_a_conflict(tmp_path, project):
    (project / "a").write_text("seen")
    before = (project / "a").stat()
    with FileSpace(str(project)).target("a") as place, NewFile(place, expect=before) as new:
        new.write([b"edited"])
        (project / "a").write_text("someone else's")
        with pytest.raises(errors.Conflict, match="changed"):
            new.commit()
    assert (project / "a").read_text() == "someone else's"
    assert left_in(project) == ["a"]


async def test_a_tree_makes_the_round_trip_as_a_tar(tmp_path, project):
    tree = project / "tree"
    (tree / "sub/empty").mkdir(parents=True)
    (tree / "read-only").mkdir()
    (tree / "read-only/file").write_text("x")
    (tree / "sub/run.sh").write_bytes(b"#!" + os.urandom(3_000_000))
    (tree / "sub/run.sh").chmod(0o754)
    (tree / "out").symlink_to("/etc/passwd")
    (tree / "dangling").symlink_to("nowhere")
    (tree / ("long" * 50)).mkdir()
    (tree / ("long" * 50) / ("name" * 50)).write_text("deep")
    (tree / os.fsdecode(b"caf\xe9")).write_text("latin")
    os.mkfifo(tree / "pipe")
    (tree / "read-only").chmod(0o555)
    async with files(tmp_path) as (fs, _):
        archive = await packed(fs, "tree")
        answer = await fs.unpack("copy", one(*(archive[i : i + 70_001] for i in range(0, len(archive), 70_001))))
    (tree / "pipe").unlink()
    assert not answer["truncated"]
    assert f"{project}/copy/sub/run.sh" in answer["paths"]
    assert subprocess.run(["diff", "-r", "--no-dereference", str(tree), str(project / "copy")]).returncode == 0
    assert os.readlink(project / "copy/out") == "/etc/passwd"
    assert [oct(p.stat().st_mode & 0o777) for p in (project / "copy/sub/run.sh", project / "copy/read-only")] == [
        "0o754",
        "0o555",
    ]


async def test_any_tar_is_understood_and_any_tar_understands_ours(tmp_path, project):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("a")
    os.link(source / "a", source / "hard")
    (source / ("n" * 90)).write_text("long")
    (source / "naïve").write_text("é")
    async with files(tmp_path) as (fs, _):
        for kind in ("gnu", "pax", "ustar"):
            done = subprocess.run(
                ["tar", "-C", source, f"--format={kind}", "-cf-", "."], capture_output=True, check=True
            )
            await fs.unpack(kind, one(done.stdout))
            assert subprocess.run(["diff", "-r", str(source), str(project / kind)]).returncode == 0
        (project / "back").mkdir()
        subprocess.run(["tar", "-C", str(project / "back"), "-xf-"], input=await packed(fs, "gnu"), check=True)
    assert subprocess.run(["diff", "-r", str(source), str(project / "back")]).returncode == 0


async def test_an_archive_is_merged_into_what_is_there_through_no_link(tmp_path, project):
    (project / "d/sub").mkdir(parents=True)
    (project / "d/sub/kept").write_text("kept")
    (project / "d/a").write_text("old")
    (project / "outside").mkdir()
    (project / "d/link").symlink_to("../outside")
    async with files(tmp_path) as (fs, _):
        await fs.unpack("d", one(tar(("a", b"new"), ("sub/b", b"b"))))
        for bad in (tar(("a", b"newer"), ("link/x", b"x")), tar(("a", b"newer"), ("sub", b"x"))):
            with pytest.raises(errors.AlreadyExists):
                await fs.unpack("d", one(bad))
        with pytest.raises(errors.AlreadyExists):
            await fs.unpack("d/a", one(tar(("x", b"x"))))
    assert (project / "d/a").read_text() == "new"
    assert left_in(project) == ["d", "d/a", "d/link", "d/sub", "d/sub/b", "d/sub/kept", "outside"]


HOSTILE = {
    "dots": tar(("good", b"x"), ("../evil", b"x")),
    "dots inside": tar(("good", b"x"), ("a/../../evil", b"x")),
    "absolute": tar(("good", b"x"), ("/tmp/evil", b"x")),
    "through a link": tar(("d", tarfile.SYMTYPE, "/tmp"), ("d/evil", b"x")),
    "through a link of its own": tar(("d", tarfile.SYMTYPE, "."), ("d/evil", b"x")),
    "hard link out": tar(("d", tarfile.LNKTYPE, "/etc/passwd")),
    "hard link up": tar(("d", tarfile.LNKTYPE, "../../etc/passwd")),
    "hard link to a link": tar(("l", tarfile.SYMTYPE, "/etc/passwd"), ("d", tarfile.LNKTYPE, "l")),
    "hard link through a link": tar(("l", tarfile.SYMTYPE, "/etc"), ("d", tarfile.LNKTYPE, "l/passwd")),
    "hard link to nothing": tar(("d", tarfile.LNKTYPE, "nothing")),
    "character device": tar(("good", b"x"), ("d", tarfile.CHRTYPE, None)),
    "block device": tar(("d", tarfile.BLKTYPE, None)),
    "pipe": tar(("d", tarfile.FIFOTYPE, None)),
    "file below a file": tar(("d", b"x"), ("d/evil", b"x")),
    "directory and file": tar(("d/x", b"x"), ("d", b"x")),
    "no tar": b"x" * 2048,
    "cut off": tar(("good", b"x" * 5000))[:3000],
    "without an end": tar(("good", b"x"))[:1024],
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_bad_archive_leaves_nothing_at_all(project, name):
    with pytest.raises(errors.UsageError):
        await Files(FileSpace(str(project))).unpack("new", one(HOSTILE[name]))
    assert left_in(project) == []


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
async def test_a_header_that_wants_too_much_memory_is_refused(project, kind):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, MAX_EXTENDED_BYTES + 1
    with pytest.raises(errors.UsageError, match="header"):
        await Files(FileSpace(str(project))).unpack("new", one(info.tobuf(tarfile.GNU_FORMAT), b"x" * 1024))
    assert left_in(project) == []


async def test_set_id_bits_are_never_taken_over(project):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("root-shell")
        info.mode = 0o6755
        archive.addfile(info)
    await Files(FileSpace(str(project))).unpack("new", one(out.getvalue()))
    assert (project / "new/root-shell").stat().st_mode & 0o7777 == 0o755


async def test_a_file_that_cannot_be_read_ends_an_archive_with_its_reason(project):
    broken = tar(("good", b"x"))[:1024] + failure(errors.PermissionDenied("/there/secret: Permission denied."))
    with pytest.raises(errors.PermissionDenied, match="/there/secret"):
        await Files(FileSpace(str(project))).unpack("new", one(broken))
    assert left_in(project) == []


async def test_a_root_confines_every_route(tmp_path, project):
    (tmp_path / "secret").write_text("secret")
    (project / "inside").write_text("inside")
    (project / "in").symlink_to("inside")
    (project / "out").symlink_to("../secret")
    (project / "up").symlink_to("..")
    async with files(tmp_path, root=str(project)) as (fs, transport):
        assert await content(fs, "in") == b"inside"
        assert [e["name"] for e in await fs.entries(str(project))] == ["in", "inside", "out", "up"]
        for path in ("/etc/passwd", str(tmp_path / "secret"), "out", "up/secret", f"{project}/../secret", "/"):
            for call in (
                fs.stat(path),
                content(fs, path),
                fs.write(path, one(b"x")),
                fs.edit(path, "secret", "x"),
                fs.move("inside", f"{path}/x"),
                fs.unpack(path, one(tar(("x", b"x")))),
                packed(fs, path),
                fs.mkdir(path),
            ):
                with pytest.raises(errors.UsageError, match="outside"):
                    await call
        with pytest.raises(errors.UsageError, match="itself"):
            await fs.delete(str(project), recursive=True)
        with pytest.raises(errors.UsageError, match="outside"):
            await transport.request("GET", "/v1/fs/entries")  # HOME is not in the root
        await fs.delete("out")
        await fs.delete("up")
    assert left_in(project) == ["in", "inside"]
    assert (tmp_path / "secret").read_text() == "secret"


async def test_a_directory_that_becomes_a_link_after_the_look_is_not_followed(tmp_path, project, monkeypatch):
    """The swap happens between resolving and opening, as an agent could do it."""
    (project / "d").mkdir()
    (tmp_path / "outside").mkdir()
    resolve = files_space._real

    def resolve_then_swap(path, *, follow):
        real = resolve(path, follow=follow)
        (project / "d").rmdir()
        (project / "d").symlink_to(tmp_path / "outside")
        return real

    monkeypatch.setattr(files_space, "_real", resolve_then_swap)
    with pytest.raises(errors.UsageError):
        files_space.FileSpace(str(project), root=str(project)).target("d/x")
    assert left_in(tmp_path / "outside") == []


async def test_a_download_that_is_given_up_closes_its_file(tmp_path, project):
    (project / "big").write_bytes(bytes(20_000_000))
    async with files(tmp_path) as (fs, _):
        async with fs.read("big") as reading:
            assert reading.size == 20_000_000
            await anext(reading.chunks)
        pid = (await fs._transport.health())["pid"]
        await until(lambda: not any(name.endswith("/big") for name in open_files(pid)))
        assert (await fs.stat("big"))["size"] == 20_000_000


@pytest.mark.slow
async def test_a_large_transfer_takes_no_more_memory_than_a_small_one(tmp_path, project):
    async with files(tmp_path) as (fs, transport):
        await fs.write("warm", one(b"x" * 2_000_000))
        pid = (await transport.health())["pid"]
        before = peak_mb(pid)
        await fs.write("big", one(*[bytes(1_000_000)] * 80))
        async with fs.read("big") as reading:
            async for _ in reading.chunks:
                pass
        await fs.unpack("tree", one(await packed(fs, "warm")))
        assert peak_mb(pid) - before < 20


def peak_mb(pid) -> float:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


async def test_a_refused_upload_gets_its_answer_although_it_is_still_being_sent(tmp_path, project):
    (project / "d").mkdir()
    async with files(tmp_path) as (fs, _):
        with pytest.raises(errors.UsageError, match="is a directory"):
            await fs.write("d", one(*[bytes(1_000_000)] * 40))
        assert await fs.entries(".")


async def test_a_body_of_another_length_than_was_said_is_not_kept(project):
    with pytest.raises(errors.Conflict, match="3 of 4 bytes"):
        await Files(FileSpace(str(project))).write("a", one(b"abc"), size=4)
    assert left_in(project) == []


async def test_where_files_cannot_be_nameless_a_put_is_whole_or_nothing_too(project, monkeypatch):
    async def broken():
        yield b"new"
        raise errors.SandboxError("The upload broke off.")

    monkeypatch.setattr(files_write, "_UNNAMED", None)
    place = Files(FileSpace(str(project)))
    await place.write("a", one(b"old"), mode=0o640)
    with pytest.raises(errors.SandboxError):
        await place.write("a", broken())
    assert (project / "a").read_text() == "old"
    await place.write("a", one(b"new"))
    assert (project / "a").read_text() == "new"
    assert (project / "a").stat().st_mode & 0o777 == 0o640
    assert left_in(project) == ["a"]
