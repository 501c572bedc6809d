"""HOME kept on a volume as compressed tars: what comes back, what stays out, and what is left of it after a crash."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

from agentctl import errors
from agentctl.supervisor.fresh_files import write_fresh_files
from agentctl.supervisor.keep import home as keep_home
from agentctl.supervisor.keep.home import KeptHome
from agentctl.supervisor.preparation import write_files
from tests.supervisor.dying import killed_at_every_step
from tests.supervisor.s3_files import REPOSITORY
from tests.supervisor.test_keep_log import memory, volume  # noqa: F401 - fixtures


def kept_home(home, kept, fencing=1, sandbox="sbx_1"):
    """A supervisor as far as HOME goes, before it has restored anything."""
    home.mkdir(exist_ok=True)
    tmp = home.parent / "tmp"
    tmp.mkdir(exist_ok=True)
    return KeptHome(home, kept, tmp, sandbox, fencing)


def begun(home, kept, fencing=1, sandbox="sbx_1"):
    one = kept_home(home, kept, fencing, sandbox)
    one.restore()
    return one


def generations(kept):
    return sorted(path for path in kept.iterdir() if path.suffix == ".tgz")


def tree(home):
    found = {}
    for path in sorted(home.rglob("*")):
        name, status = str(path.relative_to(home)), path.lstat()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = (oct(status.st_mode), int(status.st_mtime), path.read_bytes())
        else:
            found[name] = oct(status.st_mode)
    return {name: what for name, what in found.items() if not name.startswith(".local")}


def fill(home):
    (home / "bin").mkdir(mode=0o750)
    (home / "bin/tool").write_text("#!/bin/sh\n")
    (home / "bin/tool").chmod(0o755)
    (home / "secret").write_bytes(b"\0\xff" * 1000)
    (home / "secret").chmod(0o600)
    os.utime(home / "secret", (1_000_000_000, 1_000_000_000))
    (home / "link").symlink_to("bin/tool")
    (home / "dangling").symlink_to("/nowhere")
    git = {"GIT_CONFIG_GLOBAL": "/dev/null", "PATH": os.environ["PATH"], "HOME": str(home)}
    for argv in (["init", "-q", "repo"], ["-C", "repo", "-c", "user.name=a", "-c", "user.email=a@b",
                                          "commit", "-q", "--allow-empty", "-m", "one"]):  # fmt: skip
        subprocess.run(["git", *argv], cwd=home, env=git, check=True)


def test_home_comes_back_in_a_new_sandbox_with_modes_links_times_and_git(tmp_path, volume):  # noqa: F811
    kept = volume / "home"
    one = begun(tmp_path / "a", kept)
    fill(tmp_path / "a")
    (tmp_path / "a/.cache").mkdir()
    (tmp_path / "a/.cache/big").write_text("made again")
    before = tree(tmp_path / "a")
    assert one.save()["number"] == 1
    assert one.save() is None  # nothing has changed
    (tmp_path / "b").mkdir()
    (tmp_path / "b/.profile").write_text("of the image")
    two = kept_home(tmp_path / "b", kept, fencing=2)
    assert two.restore() == (1, [])
    after = tree(tmp_path / "b")
    assert after.pop(".profile")[2] == b"of the image"
    assert after == {name: what for name, what in before.items() if not name.startswith(".cache")}
    assert (tmp_path / "b").stat().st_uid == os.geteuid()
    log = subprocess.run(["git", "log", "--oneline"], cwd=tmp_path / "b/repo", capture_output=True, check=True)
    assert b"one" in log.stdout
    (tmp_path / "b/more").write_text("new")
    assert two.save()["number"] == 2
    assert kept_home(tmp_path / "b", kept, fencing=3).restore() is None  # the same sandbox has it all


def test_two_generations_are_kept_and_a_torn_one_gives_way_to_the_one_before(tmp_path):
    kept = tmp_path / "home"
    one = begun(tmp_path / "a", kept)
    for n in range(4):
        (tmp_path / "a/n").write_text(str(n))
        one.save()
    older, newest = generations(kept)
    newest.write_bytes(newest.read_bytes()[:-20])
    two = kept_home(tmp_path / "b", kept, fencing=2)
    assert two.restore() == (3, [{"number": 4, "reason": "torn"}])
    assert (tmp_path / "b/n").read_text() == "2"
    (tmp_path / "b/n").write_text("next")
    two.save()
    assert generations(kept)[0] == older  # and not the torn one
    assert len(generations(kept)) == 2
    for path in generations(kept):
        path.write_bytes(b"nothing of it")
    restored = kept_home(tmp_path / "c", kept, fencing=3).restore()
    assert (restored.number, len(restored.refused)) == (None, 2)
    assert tree(tmp_path / "c") == {}


def archive(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            tar.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", tarfile.REGTYPE, "")],
        [("/tmp/escaped", tarfile.REGTYPE, "")],
        [("out", tarfile.SYMTYPE, "/tmp"), ("out/escaped", tarfile.REGTYPE, "")],
        [("device", tarfile.CHRTYPE, "")],
        [("hard", tarfile.LNKTYPE, "/etc/passwd")],
    ],
)
def test_a_hostile_archive_is_refused_whole_and_the_one_before_is_taken(tmp_path, members):
    kept = tmp_path / "home"
    one = begun(tmp_path / "a", kept)
    (tmp_path / "a/good").write_text("good")
    one.save()
    data = archive(("first", tarfile.REGTYPE, ""), *members)
    (kept / f"{2:020d}.1.{hashlib.sha256(data).hexdigest()}.tgz").write_bytes(data)
    restored = kept_home(tmp_path / "b", kept, fencing=2).restore()
    assert restored.number == 1
    assert "archive" in restored.refused[0]["reason"]
    assert list(tree(tmp_path / "b")) == ["good"]
    assert not (tmp_path / "escaped").exists()


def test_what_agentctl_puts_into_home_is_not_kept_but_what_the_agent_renewed_is(tmp_path):
    kept, home = tmp_path / "home", tmp_path / "a"
    one = begun(home, kept)
    write_fresh_files(home, {".agent/login.json": "the user's login", ".agent/renewed.json": "old"})
    write_files(home, [{"path": "given.txt", "data": "Z2l2ZW4="}])
    (home / ".agent/renewed.json").write_text("renewed by the agent")
    one.save()
    with tarfile.open(generations(kept)[0]) as tar:
        names = tar.getnames()
    assert ".agent/renewed.json" in names
    assert {".agent/login.json", "given.txt"}.isdisjoint(names)
    begun(tmp_path / "b", kept, fencing=2)
    write_fresh_files(tmp_path / "b", {".agent/login.json": "the user's login", ".agent/renewed.json": "old"})
    write_files(tmp_path / "b", [{"path": "given.txt", "data": "Z2l2ZW4="}])
    assert (tmp_path / "b/.agent/login.json").read_text() == "the user's login"
    assert (tmp_path / "b/.agent/renewed.json").read_text() == "renewed by the agent"
    assert (tmp_path / "b/given.txt").read_text() == "given"


def test_a_home_above_the_limit_is_refused_and_what_was_kept_stays(tmp_path, monkeypatch):
    kept = tmp_path / "home"
    one = begun(tmp_path / "a", kept)
    (tmp_path / "a/small").write_text("x")
    one.save()
    monkeypatch.setattr(keep_home, "HOME_LIMIT_BYTES", 100_000)
    (tmp_path / "a/big").write_bytes(os.urandom(200_000))
    with pytest.raises(errors.DiskFull, match="larger than"):
        one.save()
    assert [path.name[:20] for path in generations(kept)] == [f"{1:020d}"]
    (tmp_path / "a/big").unlink()
    (tmp_path / "a/small").write_text("y")
    assert one.save()["number"] == 2


def test_a_lower_fencing_number_writes_no_home_any_more(tmp_path):
    kept = tmp_path / "home"
    old, _new = begun(tmp_path / "a", kept), begun(tmp_path / "b", kept, fencing=2, sandbox="sbx_2")
    (tmp_path / "a/n").write_text("late")
    with pytest.raises(errors.LeaseLost):
        old.save()
    assert generations(kept) == []


def test_a_full_volume_is_said_and_the_next_attempt_is_a_whole_one(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root of a Linux may mount a small disk")
    try:
        one = begun(tmp_path / "a", small / "home")
        (tmp_path / "a/first").write_text("first")
        one.save()
        (tmp_path / "a/big").write_bytes(os.urandom(400_000))
        with pytest.raises(errors.DiskFull):
            one.save()
        assert len(generations(small / "home")) == 1
        (tmp_path / "a/big").unlink()
        (tmp_path / "a/second").write_text("second")
        one.save()
        begun(tmp_path / "b", small / "home", fencing=2)
        assert list(tree(tmp_path / "b")) == ["first", "second"]
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


CRASHING = """
import os, sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from tests.supervisor.dying import dying_at_every_step
from tests.supervisor.test_keep_home import begun

def play(place):
    one = begun(place / "new", place / "kept", fencing=2)
    (place / "new/n").write_text("2-1")
    one.save()

dying_at_every_step(Path(sys.argv[1]), play)
"""


@pytest.mark.slow
def test_whatever_step_a_supervisor_is_killed_at_a_good_home_is_there(memory):  # noqa: F811
    """The second of two dies while it restores, saves, and removes an older one."""
    one = begun(memory / "old", memory / "kept")
    for n in (1, 2):
        (memory / "old/n").write_text(f"1-{n}")
        one.save()
    seen = []
    for at, place in enumerate(killed_at_every_step(CRASHING, memory)):
        if (place / "new").is_dir():  # the same sandbox goes on: its HOME is as it was, or restored as a whole
            same = kept_home(place / "new", place / "kept", fencing=3)
            same.restore()
            assert json.loads((place / "new/.local/state/agentctl/kept.json").read_text())["fencing"] == 3
            assert not list((place / "new").glob(".agentctl-*"))
            shutil.rmtree(place / "new")
        other = kept_home(place / "other", place / "kept", fencing=4, sandbox="sbx_2")
        other.restore()
        seen.append((place / "other/n").read_text())
        (place / "other/n").write_text("next")
        other.save()
        assert len(generations(place / "kept")) == 2, at
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == ("1-2", "2-1")


AS_AGENT = """
import ctypes, os, sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from agentctl.supervisor.agent_user import act_for
from tests.supervisor.test_keep_home import begun

place = Path(sys.argv[1])
one = begun(place / "a", place / "kept")
(place / "a/file").write_text("x")
one.save()
for kept in (place / "kept").iterdir():
    os.chown(kept, 65534, 65534)  # the supervisor before this one was the agent's, too
act_for(65534, 65534)
begun(place / "b", place / "kept", fencing=2)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act for another user")
def test_what_is_restored_belongs_to_the_agent():
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o777)
        for below in ("kept", "tmp", "b"):
            (place / below).mkdir()
            (place / below).chmod(0o777)
        script = AS_AGENT.format(repository=str(REPOSITORY))
        subprocess.run(["/bin/sh", "-c", 'umask 0; exec "$0" "$@"', sys.executable, "-c", script, name], check=True)
        assert (place / "b/file").stat().st_uid == 65534
