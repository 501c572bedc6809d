"""``/v1/fs`` of a real supervisor: listed, read, written, moved, removed, edited, and refused."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys

import pytest

from agentctl import errors
from tests.supervisor.files_support import content, files, left_in, one
from tests.supervisor.support import TOKEN, supervisor


async def test_a_file_is_put_got_listed_and_described(tmp_path):
    async with files(tmp_path) as (fs, _):
        put = await fs.write("deep/er/a.txt", one(b"hel", b"lo"), mode=0o640)
        assert put == {"path": str(tmp_path / "project/deep/er/a.txt"), "bytesWritten": 5}
        assert await content(fs, "deep/er/a.txt") == b"hello"
        os.symlink("a.txt", tmp_path / "project/deep/er/link")
        directory, file, link = [*(await fs.entries("deep")), *(await fs.entries("deep/er"))]
        assert (directory["name"], directory["entryType"]) == ("er", "directory")
        assert (file["name"], file["entryType"], file["size"], file["mode"]) == ("a.txt", "file", 5, "0640")
        assert (link["name"], link["entryType"], link["target"]) == ("link", "file", "a.txt")
        about = await fs.stat("deep/er/link")
        assert {k: v for k, v in file.items() if k not in ("name", "path")} == {
            k: v for k, v in about.items() if k != "path"
        }
        assert about["modified"].endswith("+00:00")


async def test_a_file_of_eight_megabytes_goes_both_ways_whole(tmp_path):
    data = os.urandom(8 * 1024 * 1024 + 7)
    async with files(tmp_path) as (fs, _):
        await fs.write("big", one(data[:5_000_000], data[5_000_000:]))
        assert await content(fs, "big") == data


async def test_a_put_keeps_the_mode_of_what_it_replaces_and_writes_through_links(tmp_path, project):
    (project / "run.sh").write_text("old")
    (project / "run.sh").chmod(0o755)
    (project / "link").symlink_to("run.sh")
    async with files(tmp_path) as (fs, _):
        await fs.write("link", one(b"new"))
    assert (project / "link").is_symlink()
    assert (project / "run.sh").read_text() == "new"
    assert stat.S_IMODE((project / "run.sh").stat().st_mode) == 0o755


async def test_files_of_proc_which_have_no_size_are_read(tmp_path):
    async with files(tmp_path) as (fs, _):
        assert b"Name:" in await content(fs, "/proc/self/status")


MISSING = ["missing", "missing/below", "/no/such/file"]


async def test_what_is_missing_is_404_and_named(tmp_path):
    async with files(tmp_path) as (fs, _):
        for path in MISSING:
            for call in (fs.stat(path), fs.entries(path), content(fs, path), fs.delete(path), fs.move(path, "x")):
                with pytest.raises(errors.PathNotFound, match=path):
                    await call


async def test_a_directory_where_a_file_is_meant_is_refused(tmp_path, project):
    (project / "dir").mkdir()
    (project / "file").write_text("x")
    os.mkfifo(project / "pipe")
    async with files(tmp_path) as (fs, _):
        for call in (content(fs, "dir"), fs.write("dir", one(b"x")), fs.edit("dir", "a", "b")):
            with pytest.raises(errors.UsageError, match="is a directory, not a file"):
                await call
        for call in (fs.entries("file"), fs.write("file/below", one(b"x")), content(fs, "file/below")):
            with pytest.raises(errors.UsageError, match="not a directory"):
                await call
        for call in (content(fs, "pipe"), fs.write("pipe", one(b"x"))):
            with pytest.raises(errors.UsageError, match="not a regular file"):
                await call
    assert left_in(project) == ["dir", "file", "pipe"]


async def test_a_nul_and_a_relative_path_that_leaves_are_refused(tmp_path):
    async with files(tmp_path) as (fs, transport):
        with pytest.raises(errors.UsageError, match="NUL"):
            await fs.stat("a\0b")
        await fs.mkdir("a")
        with pytest.raises(errors.UsageError, match="NUL"):
            await fs.move("a", "b\0")
        for path in ("../secret", "a/../../b", ".."):
            with pytest.raises(errors.UsageError, match="leaves"):
                await transport.request("GET", f"/v1/fs/stat?path={path}")


async def test_relative_paths_begin_at_home(tmp_path):
    async with files(tmp_path) as (_, transport):
        await transport.request("POST", "/v1/fs/mkdir?path=made")
        assert (tmp_path / "home/made").is_dir()
        assert await transport.request("GET", "/v1/fs/entries") == await transport.request(
            "GET", "/v1/fs/entries?path=."
        )


async def test_making_a_directory_twice_is_fine_and_over_a_file_a_conflict(tmp_path, project):
    (project / "file").write_text("x")
    async with files(tmp_path) as (fs, _):
        assert await fs.mkdir("a/b") == await fs.mkdir("a/b") == {"path": str(project / "a/b")}
        with pytest.raises(errors.AlreadyExists, match="file"):
            await fs.mkdir("file")


async def test_a_full_directory_is_removed_only_recursively(tmp_path, project):
    (project / "dir/sub").mkdir(parents=True)
    (project / "outside").mkdir()
    (project / "outside/kept").write_text("x")
    (project / "dir/link").symlink_to("../outside")
    async with files(tmp_path) as (fs, _):
        with pytest.raises(errors.DirectoryNotEmpty, match="dir"):
            await fs.delete("dir")
        await fs.delete("dir", recursive=True)
        with pytest.raises(errors.UsageError, match="itself"):
            await fs.delete("/", recursive=True)
    assert left_in(project) == ["outside", "outside/kept"]


async def test_a_move_makes_parents_and_never_replaces_unasked(tmp_path, project):
    (project / "a").write_text("a")
    (project / "b").write_text("b")
    (project / "d/inner").mkdir(parents=True)
    async with files(tmp_path) as (fs, _):
        moved = await fs.move("a", "x/y/a")
        assert moved == {"from": str(project / "a"), "to": str(project / "x/y/a")}
        for to in ("b", "d"):
            with pytest.raises(errors.AlreadyExists, match=to):
                await fs.move("x/y/a", to)
        await fs.move("x/y/a", "b", overwrite=True)
        with pytest.raises(errors.UsageError):
            await fs.move("d", "d/inner/deeper")
        await fs.move("d", "e")
    assert (project / "b").read_text() == "a"
    assert left_in(project) == ["b", "e", "e/inner", "x", "x/y"]


async def test_two_moves_to_one_name_leave_one_there_and_the_other_where_it_was(tmp_path, project):
    (project / "a").write_text("a")
    (project / "b").write_text("b")
    async with files(tmp_path) as (fs, _):
        done = await asyncio.gather(fs.move("a", "c"), fs.move("b", "c"), return_exceptions=True)
    assert sorted(type(result).__name__ for result in done) == ["AlreadyExists", "dict"]
    assert len(left_in(project)) == 2


async def test_names_that_are_no_utf_8_make_the_round_trip(tmp_path, project):
    name = os.fsdecode(b"caf\xe9 \xff%?&.txt")
    async with files(tmp_path) as (fs, transport):
        await fs.write(name, one(b"bytes"))
        assert os.listdir(os.fsencode(project)) == [b"caf\xe9 \xff%?&.txt"]
        async with transport.open("GET", f"/v1/fs/entries?path={project}") as response:
            text = (await response.aread()).decode()
        [entry] = json.loads(text)
        assert entry["name"] == "caf\ufffd \ufffd%?&.txt"
        assert "\\ud" not in text
        async with transport.open("GET", f"/v1/fs/file?path={entry['rawPath']}") as response:
            assert await response.aread() == b"bytes"
        moved = await fs.move(name, name + "2")
        assert moved["to"] == f"{project}/caf\ufffd \ufffd%?&.txt2"
        assert (await fs.delete(name + "2"))["rawPath"].endswith("caf%E9%20%FF%25%3F%26.txt2")
        with pytest.raises(errors.PathNotFound, match="caf\ufffd"):
            await fs.stat(name)
        with pytest.raises(errors.UsageError, match="surrogate"):
            await fs.move("\ud800", "x")


async def test_an_edit_replaces_what_is_there_once_and_keeps_the_mode(tmp_path, project):
    path = project / "a.py"
    path.write_bytes(b"one = 1\r\ntwo = 2\r\ntwo_too = 2\r\n")
    path.chmod(0o755)
    async with files(tmp_path) as (fs, _):
        assert await fs.edit("a.py", "one = 1", "one = 'é'") == {"path": str(path), "replacements": 1}
        with pytest.raises(errors.UsageError, match="2 times"):
            await fs.edit("a.py", "= 2", "= 3")
        assert (await fs.edit("a.py", "= 2", "= 3", everywhere=True))["replacements"] == 2
        with pytest.raises(errors.UsageError, match="not in"):
            await fs.edit("a.py", "gone", "x")
        with pytest.raises(errors.UsageError, match="empty"):
            await fs.edit("a.py", "", "x")
    assert path.read_bytes() == "one = 'é'\r\ntwo = 3\r\ntwo_too = 3\r\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


async def test_an_edit_refuses_a_binary_and_other_encodings(tmp_path, project):
    (project / "binary").write_bytes(b"a\0b")
    (project / "latin").write_bytes(b"a caf\xe9")
    async with files(tmp_path) as (fs, _):
        with pytest.raises(errors.UsageError, match="binary"):
            await fs.edit("binary", "a", "b")
        with pytest.raises(errors.UsageError, match="not UTF-8"):
            await fs.edit("latin", "a", "b")
    assert (project / "binary").read_bytes() == b"a\0b"


WRONG = [
    ("GET", "file", None, 400, "invalid_request"),
    ("GET", "nothing", None, 404, "not_found"),
    ("POST", "file?path=x", None, 405, "invalid_request"),
    ("POST", "move", b"{", 400, "invalid_request"),
    ("POST", "move", b'{"from": 1, "to": "x"}', 400, "invalid_request"),
    ("PUT", "file?path=x&mode=9", b"x", 400, "invalid_request"),
    ("PUT", "file?path=x&mode=4755", b"x", 400, "invalid_request"),
    ("POST", "upload-batch?path=x", b"x", 400, "invalid_request"),
    ("GET", "stat?path=x&session=ses_none", None, 404, "session_not_found"),
    ("GET", "entries?path=nowhere", None, 404, "path_not_found"),
]


async def test_every_error_is_problem_json(tmp_path):
    async with supervisor(tmp_path) as running:
        for method, target, body, status, code in WRONG:
            answer = await curl(running, "-X", method, f"http://x/v1/fs/{target}", body=body)
            head, _, text = answer.partition(b"\r\n\r\n")
            assert head.split()[1] == str(status).encode(), target
            assert b"application/problem+json" in head
            problem = json.loads(text)
            assert (problem["type"].rpartition(":")[2], problem["status"]) == (code, status)


async def curl(running, *args, body=None):
    """What a client that is not ours gets."""
    data = ["--data-binary", "@-"] if body is not None else []
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-i", "--max-time", "20", "--unix-socket", running.socket, "-H", "X-Agentctl-Token: " + TOKEN,
        *data, *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate(body)
    return out


def test_a_supervisor_starts_without_the_modules_of_its_files():
    code = "import agentctl.supervisor.http_server, sys; print([n for n in sys.modules if '.f' in n or n == 'tarfile'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in ("fs_routes", "supervisor.files", "tarfile") if name in done.stdout]
