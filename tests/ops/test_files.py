"""Files of sessions and volumes through the ops: a sandbox without an agent, copies in every direction, confinement."""

from __future__ import annotations

import os
import stat

import pytest

from agentctl import errors
from agentctl.ops import files, sessions
from agentctl.ops.copy import Where, copy
from tests.ops.support import say, spec


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Where the user is: another directory than the session's."""
    path = tmp_path / "here"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
async def work(app, project):
    """A session whose agent has never run."""
    return await sessions.create(app, spec(project), name="work", provision=False)


async def cp(app, source, target, **how):
    return await copy(app, Where.parse(source), Where.parse(target), **how)


async def test_files_are_reached_without_starting_the_agent(app, work, project):
    (project / "a").write_text("x")
    assert [entry["name"] for entry in await files.entries(app, "work", ".")] == ["a"]
    assert app.store.session(work.id).status == "new"
    assert (await say(app, work.id, "hello")).outcome == "completed"
    assert [entry["name"] for entry in await files.entries(app, "work", "a")] == ["a"]


async def test_one_file_goes_both_ways_with_its_mode(app, work, project, here):
    (here / "run.sh").write_text("#!/bin/sh\n")
    (here / "run.sh").chmod(0o750)
    done = await cp(app, "run.sh", "work:tool.sh")
    assert done == {"source": "run.sh", "target": str(project / "tool.sh"), "bytes": 10}
    assert stat.S_IMODE((project / "tool.sh").stat().st_mode) == 0o750
    await cp(app, "work:tool.sh", ".")
    assert (here / "tool.sh").read_text() == "#!/bin/sh\n"
    assert stat.S_IMODE((here / "tool.sh").stat().st_mode) == 0o750


async def test_a_file_goes_into_a_directory_and_nowhere_that_is_not_there(app, work, project, here):
    (here / "a").write_text("a")
    (project / "d").mkdir()
    await cp(app, "a", "work:d")
    await cp(app, "a", "work:d/b")
    await cp(app, "a", "work:")
    with pytest.raises(errors.PathNotFound, match="nowhere"):
        await cp(app, "a", "work:nowhere/b")
    with pytest.raises(errors.PathNotFound, match="new/"):
        await cp(app, "a", "work:new/")
    with pytest.raises(errors.PathNotFound, match="missing"):
        await cp(app, "work:missing", ".")
    assert sorted(p.name for p in project.rglob("*")) == ["a", "a", "b", "d"]


async def test_a_directory_needs_to_be_asked_for_and_goes_as_cp_does_it(app, work, project, here):
    (here / "src/sub").mkdir(parents=True)
    (here / "src/sub/x").write_text("x")
    (here / "src/link").symlink_to("/etc/passwd")
    with pytest.raises(errors.UsageError, match="directory") as refused:
        await cp(app, "src", "work:dst")
    assert "-r" in refused.value.hint
    await cp(app, "src", "work:dst", recursive=True)
    await cp(app, "src", "work:dst", recursive=True)
    await cp(app, "src/.", "work:dst/content", recursive=True)
    names = sorted(str(p.relative_to(project)) for p in project.rglob("*"))
    assert names == [
        "dst", "dst/content", "dst/content/link", "dst/content/sub", "dst/content/sub/x", "dst/link", "dst/src",
        "dst/src/link", "dst/src/sub", "dst/src/sub/x", "dst/sub", "dst/sub/x",
    ]  # fmt: skip
    assert os.readlink(project / "dst/link") == "/etc/passwd"
    await cp(app, "work:dst/src", "back", recursive=True)
    assert (here / "back/sub/x").read_text() == "x"
    assert (here / "back/link").is_symlink()
    (here / "file").write_text("x")
    with pytest.raises(errors.AlreadyExists):
        await cp(app, "work:dst", "file", recursive=True)


async def test_a_directory_is_not_copied_into_itself(app, work, project, here, monkeypatch):
    (project / "src").mkdir()
    (project / "src/x").write_text("x")
    with pytest.raises(errors.UsageError, match="into itself"):
        await cp(app, "work:src", "work:src/deeper", recursive=True)
    monkeypatch.chdir(project)
    with pytest.raises(errors.UsageError, match="into itself"):  # a local session has the host's own files
        await cp(app, "src", "work:src/deeper", recursive=True)
    assert sorted(p.name for p in project.rglob("*")) == ["src", "x"]


async def test_a_volume_is_written_and_read_without_a_sandbox(app, project, here):
    await app.provider("unix_local").volume_create("shared")
    (here / "tree").mkdir()
    (here / "tree/a").write_text("a")
    await cp(app, "tree", "volume:shared/models", recursive=True)
    await cp(app, "volume:shared/models/a", "b")
    assert (here / "b").read_text() == "a"
    assert app.store.sessions(limit=None) == []
    with pytest.raises(errors.UsageError, match="leaves"):
        await cp(app, "volume:shared/../default/x", ".")
    (here / "out").symlink_to("/etc")
    root = app.provider("unix_local").volume_path((await app.provider("unix_local").volume_list())[0], ".")
    (root / "models/out").symlink_to("/etc/passwd")
    with pytest.raises(errors.UsageError, match="outside"):
        await cp(app, "volume:shared/models/out", ".")
    with pytest.raises(errors.VolumeNotFound, match="none"):
        await cp(app, "volume:none/x", ".")


async def test_a_copy_goes_from_one_session_to_another(app, work, project, tmp_path):
    (tmp_path / "other").mkdir()
    await sessions.create(app, spec(tmp_path / "other"), name="other", provision=False)
    (project / "a").write_text("a")
    await cp(app, "work:a", "other:b")
    assert (tmp_path / "other/b").read_text() == "a"


async def test_a_root_confines_the_files_of_a_session(app, tmp_path, project):
    (project / "in").mkdir()
    (project / "secret").write_text("secret")
    session = await sessions.create(app, spec(project, root="in"), provision=False)
    assert session.spec.root == str(project / "in")
    await files.mkdir(app, session.id, "made")
    assert (project / "in/made").is_dir()
    (project / "in/out").symlink_to("../secret")
    for path in ("../secret", "out", "/etc/passwd", str(project / "secret")):
        with pytest.raises(errors.UsageError, match="outside"):
            await files.content(app, session.id, path)
    with pytest.raises(errors.UsageError, match="--root"):
        await sessions.create(app, spec(project, root="missing"), provision=False)


async def test_a_small_file_is_told_as_json_whatever_it_holds(app, work, project):
    (project / "text").write_text("héllo")
    (project / "binary").write_bytes(b"\xff\0")
    text, binary = await files.content(app, "work", "text"), await files.content(app, "work", "binary")
    assert (text["encoding"], text["content"]) == ("utf-8", "héllo")
    assert (binary["encoding"], binary["content"]) == ("base64", "/wA=")
    (project / "large").write_bytes(bytes(files.MAX_TEXT_BYTES + 1))
    with pytest.raises(errors.BodyTooLarge):
        await files.content(app, "work", "large")


async def test_moving_into_a_directory_keeps_the_name(app, work, project):
    (project / "a").write_text("a")
    (project / "d").mkdir()
    assert (await files.move(app, "work", "a", "d"))["to"] == str(project / "d/a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b", ("host", "", "a/b")),
        ("./a:b", ("host", "", "./a:b")),
        ("/a:b", ("host", "", "/a:b")),
        ("work:", ("session", "work", ".")),
        ("work:/a:b", ("session", "work", "/a:b")),
        ("@last:x", ("session", "@last", "x")),
        ("volume:v/a/b", ("volume", "v", "a/b")),
        ("volume:v", ("volume", "v", ".")),
    ],
)
def test_a_side_of_a_copy_is_understood(text, expected):
    where = Where.parse(text)
    assert (where.kind, where.name, where.path) == expected


@pytest.mark.parametrize("text", ["", "-", "volume:", "volume:/x"])
def test_a_side_that_is_none_is_refused(text):
    with pytest.raises(errors.UsageError):
        Where.parse(text)


async def test_a_file_that_shrinks_while_it_is_copied_is_a_conflict(app, work, project, here):
    (here / "log").write_bytes(bytes(8_000_000))

    def shorten(done, whole):
        os.truncate(here / "log", 3_000_000)

    with pytest.raises(errors.Conflict, match="shorter"):
        await cp(app, "log", "work:log", progress=shorten)
    assert list(project.iterdir()) == []
