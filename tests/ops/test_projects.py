"""Project directories of sessions: mounted, copied, as a worktree; what changed, and what is brought back."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from agentctl import errors
from agentctl.ops import project_changes, project_copies, projects, session_end, sessions
from agentctl.ops.project_merge import merge
from agentctl.ops.project_place import ProjectPlace
from agentctl.ops.project_pull import pull, pull_patch
from tests.ops.support import say, spec


def git(directory, *words, check=True):
    who = {f"GIT_{role}_{what}": "me@here" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **who}
    done = subprocess.run(["git", *words], cwd=directory, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout


@pytest.fixture
def checkout(project):
    """A repository with a text, a binary file, a link, an ignored file that git has, and one that it has not."""
    (project / "src").mkdir()
    (project / "src/main.py").write_text("one\ntwo\nthree\n")
    (project / "data.bin").write_bytes(bytes(range(256)))
    (project / "link").symlink_to("src/main.py")
    (project / ".gitignore").write_text("*.log\nbuild/\n")
    (project / "kept.log").write_text("kept\n")
    git(project, "init", "-q", "-b", "main")
    git(project, "add", "-f", ".")
    git(project, "commit", "-qm", "first")
    (project / "noise.log").write_text("noise\n")
    (project / "build").mkdir()
    (project / "build/out").write_text("out")
    return project


def work(directory):
    """What an agent may do to those files."""
    (directory / "src/main.py").write_text("one\nTWO\nthree\n")
    (directory / "data.bin").write_bytes(b"\0\xff" * 10)
    (directory / "link").unlink()
    (directory / "link").symlink_to("data.bin")
    (directory / "kept.log").write_text("changed\n")
    (directory / "more.log").write_text("more\n")
    (directory / "new dir").mkdir()
    (directory / 'new dir/"ä\n').write_text("odd\n")
    (directory / os.fsdecode(b"\xff")).write_text("no text as a name\n")
    (directory / "run.sh").write_text("#!/bin/sh\n")
    (directory / "run.sh").chmod(0o755)


CHANGED = {
    "src/main.py": "modified",
    "data.bin": "modified",
    "link": "modified",
    "kept.log": "modified",
    'new dir/"ä\n': "added",
    "\ufffd": "added",
    "run.sh": "added",
}


async def made(app, checkout, mode, name="work", **fields):
    wanted = replace(spec(checkout, **fields), cwd=None, project={"path": str(checkout), "mode": mode})
    return await sessions.create(app, wanted, name=name, provision=False)


def place_of(app, session):
    """Where a session of unix_local has its project."""
    return projects.host_directory(app, session)


async def changed(app, ref, *paths):
    found = await project_changes.diff(app, ref, paths)
    return {file["path"]: file["status"] for file in found["files"]}


async def patch_of(app, ref):
    with tempfile.TemporaryFile() as file:
        await project_changes.diff(app, ref, (), file)
        file.seek(0)
        return file.read()


def tree(directory):
    """All that is there but git's own, as it is."""
    found = {}
    for root, _, names in os.walk(directory):
        for path in (Path(root, name) for name in names):
            if ".git" not in path.relative_to(directory).parts:
                kept = os.readlink(path) if path.is_symlink() else (path.read_bytes(), path.stat().st_mode & 0o111)
                found[str(path.relative_to(directory))] = kept
    return found


@pytest.mark.parametrize("mode", ["mount", "copy", "worktree"])
async def test_a_diff_is_what_the_session_changed_and_git_applies_it(app, checkout, tmp_path, mode):
    (checkout / "src/main.py").write_text("one\ntwo\nthree\nnot committed\n")
    if mode == "worktree":
        git(checkout, "checkout", "-q", "src/main.py")
    before = tmp_path / "before"
    subprocess.run(["cp", "-a", checkout, before], check=True)
    session = await made(app, checkout, mode)
    assert await changed(app, "work") == {}
    work(place_of(app, session))
    assert await changed(app, "work") == CHANGED
    assert await changed(app, "work", "src", "link") == {"src/main.py": "modified", "link": "modified"}
    if mode != "mount":
        assert tree(checkout) == tree(before)
    (tmp_path / "patch").write_bytes(await patch_of(app, "work"))
    git(before, "apply", str(tmp_path / "patch"))
    ignored = ("noise.log", "more.log", "build/out")
    theirs = {k: v for k, v in tree(place_of(app, session)).items() if k not in ignored}
    assert {k: v for k, v in tree(before).items() if k not in ignored} == theirs
    assert (await project_changes.diff_as_json(app, "work"))["encoding"] == "utf-8"


async def test_a_project_without_git_has_its_changes_told_and_pulled(app, project):
    (project / "a").write_text("a\n")
    (project / "gone").write_text("x\n")
    session = await made(app, project, "copy")
    own = place_of(app, session)
    assert session.spec.cwd == str(own)
    (own / "a").write_text("b\n")
    (own / "gone").unlink()
    (own / "gone").mkdir()
    (own / "gone/inside").write_text("now a directory\n")
    done = await pull(app, "work")
    assert (done["written"], done["deleted"]) == (["a", "gone/inside"], ["gone"])
    assert tree(project) == tree(own)
    assert (await pull(app, "work"))["same"] == ["a", "gone", "gone/inside"]


async def test_the_agent_works_in_its_copy_and_sees_what_came_along(app, checkout):
    wanted = replace(spec(checkout), cwd=None, project={"path": str(checkout), "mode": "copy", "exclude": ["build/"]})
    session = await sessions.create(app, wanted, name="work")
    await say(app, "work", '@sh!="git log --oneline | wc -l > count; ls -d build >> count; echo"')
    own = place_of(app, session)
    assert (own / "count").read_text().split() == ["1"]
    assert not (checkout / "count").exists()
    assert await changed(app, "work") == {"count": "added"}
    assert projects.as_asked(app, session).cwd == str(checkout)
    same = await sessions.create(app, wanted, name="work", if_not_exists=True)
    assert same.id == session.id


async def test_nothing_of_the_hosts_is_overwritten_silently(app, checkout, tmp_path):
    session = await made(app, checkout, "copy")
    work(place_of(app, session))
    (checkout / "src/main.py").write_text("mine\n")
    (checkout / "run.sh").write_text("mine too\n")
    before = tree(checkout)
    with pytest.raises(errors.Conflict) as refused:
        await pull(app, "work")
    assert refused.value.details["files"] == ["run.sh", "src/main.py"]
    assert tree(checkout) == before
    elsewhere = await pull(app, "work", to=tmp_path / "there")
    assert len(elsewhere["written"]) == len(CHANGED)
    assert (tmp_path / "there/run.sh").stat().st_mode & 0o111
    await pull(app, "work", overwrite=True)
    assert (checkout / "src/main.py").read_text() == "one\nTWO\nthree\n"
    assert await project_changes.unpulled(app, session) == []


async def test_what_a_hostile_session_left_leads_nowhere(app, checkout, tmp_path):
    session = await made(app, checkout, "copy")
    own, outside = place_of(app, session), tmp_path / "outside"
    outside.mkdir()
    trap = f"touch {tmp_path}/ran"
    git(own, "config", "core.fsmonitor", trap)
    git(own, "config", "diff.external", trap)
    git(own, "config", "filter.x.clean", trap)
    (own / ".gitattributes").write_text("* filter=x diff=x text eol=crlf\n")
    (own / "nested/.git").mkdir(parents=True)
    (own / "nested/.git/config").write_text(f"[core]\n\tfsmonitor = {trap}\n")
    (own / "nested/file").write_text("inside\r\n")
    (own / "git~1").write_text("short\n")
    (own / "src/main.py").unlink()
    (own / "src").rmdir()
    (own / "src").symlink_to(outside)
    (outside / "main.py").write_text("not the project's\n")
    found = await changed(app, "work")
    assert found == {
        ".gitattributes": "added",
        "git~1": "added",
        "nested/file": "added",
        "src": "added",
        "src/main.py": "deleted",
    }
    (checkout / "nested").symlink_to(outside)
    with pytest.raises(errors.Conflict) as refused:
        await pull(app, "work")
    assert refused.value.details["files"] == ["nested/file"]
    (checkout / "nested").unlink()
    await pull(app, "work")
    assert (checkout / "nested/file").read_bytes() == b"inside\r\n"
    assert os.readlink(checkout / "src") == str(outside)
    assert [path.name for path in outside.iterdir()] == ["main.py"]
    assert not (tmp_path / "ran").exists()


async def test_a_worktree_is_merged_with_what_the_agent_committed_and_what_not(app, checkout):
    session = await made(app, checkout, "worktree")
    own = place_of(app, session)
    assert "agentctl/work" in git(checkout, "worktree", "list")
    assert git(own, "status", "--porcelain") == ""
    (own / "one").write_text("1\n")
    git(own, "add", "one")
    git(own, "commit", "-qm", "The agent's own")
    (own / "two").write_text("2\n")
    assert await changed(app, "work") == {"one": "added", "two": "added"}
    assert not (checkout / "one").exists()
    with pytest.raises(errors.Conflict):
        await session_end.delete(app, "work", only_pulled=True)
    (checkout / "mine").write_text("not committed\n")
    done = await merge(app, "work")
    assert done["merged"] is True
    log = git(checkout, "log", "--format=%s").splitlines()
    assert log[:2] == ["Changes of the agentctl session work", "The agent's own"]
    assert ((checkout / "two").read_text(), (checkout / "mine").read_text()) == ("2\n", "not committed\n")
    assert (await merge(app, "work"))["merged"] is False
    await session_end.delete(app, "work", only_pulled=True)
    assert git(checkout, "branch", "--format=%(refname:short)").split() == ["main"]
    assert len(git(checkout, "worktree", "list").splitlines()) == 1


async def test_a_merge_that_conflicts_leaves_the_checkout_as_it_was(app, checkout):
    session = await made(app, checkout, "worktree")
    (place_of(app, session) / "src/main.py").write_text("one\nTHEIRS\nthree\n")
    (checkout / "src/main.py").write_text("one\nMINE\nthree\n")
    with pytest.raises(errors.Conflict) as dirty:
        await merge(app, "work")
    assert "src/main.py" in dirty.value.message
    git(checkout, "commit", "-qam", "mine")
    before, head = tree(checkout), git(checkout, "rev-parse", "HEAD")
    with pytest.raises(errors.Conflict) as refused:
        await merge(app, "work")
    assert refused.value.details["files"] == ["src/main.py"]
    assert (tree(checkout), git(checkout, "rev-parse", "HEAD")) == (before, head)
    assert git(checkout, "status", "--porcelain", "-uno") == ""
    assert await project_changes.unpulled(app, session) == ["src/main.py"]


async def test_a_merge_runs_nothing_that_the_repository_names(app, checkout, tmp_path):
    trap = f"touch {tmp_path}/ran; cat"
    session = await made(app, checkout, "worktree")
    for name in ("filter.x.clean", "filter.x.smudge", "merge.x.driver", "core.fsmonitor"):
        git(checkout, "config", name, trap)
    for hook in ("post-merge", "pre-merge-commit", "post-checkout", "reference-transaction"):
        path = checkout / ".git/hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        path.chmod(0o755)
    (checkout / ".git/info").mkdir(exist_ok=True)
    (checkout / ".git/info/attributes").write_text("* filter=x merge=x\n")
    (place_of(app, session) / "src/new.py").write_text("new\n")
    await merge(app, "work")
    assert (checkout / "src/new.py").read_text() == "new\n"
    assert not (tmp_path / "ran").exists()


async def test_a_worktree_without_changes_leaves_nothing_and_a_create_that_fails_too(app, checkout):
    session = await made(app, checkout, "worktree")
    git(checkout, "branch", "agentctl/taken")
    with pytest.raises(errors.AlreadyExists):
        await made(app, checkout, "worktree", name="taken")
    git(checkout, "branch", "-D", "agentctl/taken")
    await session_end.delete(app, "work", only_pulled=True)
    assert not ProjectPlace(app, session.id).root.exists()
    project = {"path": str(checkout / "src"), "mode": "worktree"}
    wanted = replace(spec(checkout, model="no-such-model"), cwd=None, project=project)
    with pytest.raises(errors.UsageError, match="no-such-model"):
        await sessions.create(app, wanted, name="fails")
    assert git(checkout, "branch", "--format=%(refname:short)").split() == ["main"]
    assert len(git(checkout, "worktree", "list").splitlines()) == 1
    assert list(app.paths.projects.iterdir()) == []


async def test_what_cannot_be_a_project_is_said_before_anything_is_made(app, project, tmp_path, monkeypatch):
    cases = [
        ({"path": str(tmp_path / "none"), "mode": "copy"}, {}, "not a directory"),
        ({"path": str(project), "mode": "worktree"}, {}, "not in a git repository"),
        ({"path": str(project), "mode": "sideways"}, {}, "none of mount"),
        ({"path": str(project), "mode": "mount", "target": "/workspace"}, {}, "--project-target"),
        ({"path": str(project), "mode": "copy"}, {"cwd": "/tmp"}, "not in the project"),
        ({"path": "/", "mode": "mount"}, {}, "every file"),
        ({"path": str(app.paths.root), "mode": "copy"}, {}, "own state"),
    ]
    for given, fields, words in cases:
        with pytest.raises(errors.UsageError) as refused:
            await sessions.create(app, replace(spec(project, cwd=None), project=given, **fields), provision=False)
        assert words in refused.value.message + (refused.value.hint or ""), given
    git(project, "init", "-q")
    with pytest.raises(errors.UsageError, match="no commit"):
        await made(app, project, "worktree")
    assert app.store.sessions() == []
    await sessions.create(app, spec(project), name="plain", provision=False)
    with pytest.raises(errors.UsageError, match="no project"):
        await project_changes.diff(app, "plain")


async def test_copies_are_there_before_the_agent_once_and_without_what_is_excluded(app, project, tmp_path):
    (tmp_path / "data/deep").mkdir(parents=True)
    for name in ("a.csv", "b.tmp", "deep/c.csv", "deep/d.tmp"):
        (tmp_path / "data" / name).write_text(name)
    copies = (
        {"source": str(tmp_path / "data"), "target": "in", "exclude": ["*.tmp", "!deep/d.tmp"]},
        {"source": str(tmp_path / "data/a.csv"), "target": "~/single/", "exclude": []},
    )
    session = await sessions.create(app, spec(project, copies=copies), name="work", provision=False)
    said = []
    await sessions.resume(app, "work", said.append)
    home = app.provider("unix_local").volume_path(
        app.store.volume("unix_local", "default"), f"agents/{session.id}/home"
    )
    assert sorted(str(p.relative_to(home)) for p in (home / "in").rglob("*") if p.is_file()) == [
        "in/a.csv",
        "in/deep/c.csv",
        "in/deep/d.tmp",
    ]
    assert (home / "single/a.csv").read_text() == "a.csv"
    assert said[1] == f"Copying {tmp_path}/data …"
    assert not project_copies.is_due(app, app.store.session("work"))
    with pytest.raises(errors.UsageError, match="no such file"):
        await sessions.create(app, spec(project, copies=({"source": "/none", "target": "x"},)))
    with pytest.raises(errors.UsageError, match="only this machine's files"):
        await sessions.create(app, spec(project, copies=({**copies[0], "target": "/etc/x"},)))


async def test_a_copy_that_fails_leaves_no_session(app, project, tmp_path):
    (tmp_path / "file").write_text("x")
    copies = ({"source": str(tmp_path / "file"), "target": "a"}, {"source": str(tmp_path / "file"), "target": "a/b"})
    with pytest.raises(errors.UsageError):
        await sessions.create(app, spec(project, copies=copies), name="work")
    assert app.store.sessions() == []
    assert not app.paths.projects.exists() or list(app.paths.projects.iterdir()) == []


async def test_a_patch_counts_as_pulled(app, checkout):
    session = await made(app, checkout, "worktree")
    work(place_of(app, session))
    with tempfile.TemporaryFile() as file:
        assert await pull_patch(app, "work", file) == len(CHANGED)
    await session_end.delete(app, "work", only_pulled=True)


def test_the_place_in_a_container_is_the_same_path_where_that_hides_nothing():
    possible = ("/home/me/project", "/work/main", "/Users/me/x", "/var/lib/x", "/opt/x", "/tmp/x")
    assert [path for path in possible if not projects.is_possible(path)] == []
    impossible = ("/", "/root/x", "/usr/src/x", "/home", "/home/agent", "/home/agent/x", "/tmp", "/opt/agentctl/x", "x")
    assert [path for path in impossible if projects.is_possible(path)] == []
