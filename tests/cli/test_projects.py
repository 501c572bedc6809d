"""``--project``, ``--copy``, ``sessions diff`` and ``sessions pull`` as a user meets them, here and in docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import agentctl
from tests.docker.support import everything_of

AGENT = 1000
pytestmark = pytest.mark.slow


def git(directory, *words):
    who = {f"GIT_{role}_{what}": "me@here" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **who}
    safe = ("-c", "safe.directory=*")
    return subprocess.run(
        ["git", *safe, *words], cwd=directory, env=env, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def checkout(project):
    (project / "src").mkdir()
    (project / "src/main.py").write_text("one\ntwo\nthree\n")
    (project / ".gitignore").write_text("*.log\n")
    git(project, "init", "-q", "-b", "main")
    git(project, "config", "user.name", "Me")
    git(project, "config", "user.email", "me@here")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    return project


def git_of_this_host():
    """Mounts that give a container the git of this host, which tiny images do not have."""
    binary = os.path.realpath(shutil.which("git") or "")
    libraries = re.findall(r"=> (/\S*pcre\S*)", subprocess.run(["ldd", binary], capture_output=True, text=True).stdout)
    pairs = [(binary, "/usr/local/bin/git"), *((path, path) for path in libraries)]
    return [word for source, target in pairs for word in ("--mount", f"{source}:{target}")]


def inside(script):
    """Run a shell's script in the sandbox of the session ``work``."""
    return agentctl("sessions", "exec", "work", "--", "sh", "-c", script)


EDIT = '@sh!="sed -i s/two/TWO/ src/main.py; echo new > new; echo x > x.log; pwd > where"'


def test_a_throw_away_run_in_a_worktree_keeps_what_it_did_until_it_is_merged(checkout):
    done = agentctl("run", "--agent", "mock", "--project", ".", "--project-mode", "worktree", EDIT, cwd=checkout)
    assert done.code == 0, done
    [name] = re.findall(r"The session (\S+) is kept; see: agentctl sessions diff", done.err)
    assert git(checkout, "status", "--porcelain") == ""
    about = agentctl("sessions", "get", name, "--json").data
    assert about["project"] == {"path": str(checkout), "mode": "worktree", "target": None}
    assert agentctl("sessions", "diff", name, "--stat").out.splitlines() == [
        "added     +1 -0         new",
        "modified  +1 -1         src/main.py",
        "added     +1 -0         where",
        "3 files, +3 -1",
    ]
    assert agentctl("sessions", "diff", name, "-q", "src").out == "src/main.py\n"
    shown = agentctl("sessions", "diff", name, "src/main.py", "--json").data
    assert "-two\n+TWO\n" in shown["patch"]
    [file] = shown["files"]
    assert (file["path"], file["status"], file["new_mode"]) == ("src/main.py", "modified", "100644")
    assert (file["additions"], file["deletions"], file["binary"]) == (1, 1, False)
    refused = agentctl("sessions", "delete", name, "--yes")
    assert refused.code == 10
    assert "src/main.py" in refused.err
    merged = agentctl("sessions", "pull", name, "--merge")
    assert (merged.code, merged.out.strip()) == (0, git(checkout, "rev-parse", "HEAD").strip()), merged
    assert (checkout / "src/main.py").read_text() == "one\nTWO\nthree\n"
    assert agentctl("sessions", "delete", name, "--yes").code == 0
    assert git(checkout, "branch", "--format=%(refname:short)") == "main\n"


def test_a_throw_away_run_that_changed_nothing_leaves_nothing(checkout):
    done = agentctl("run", "--agent", "mock", "--project", str(checkout), "--project-mode", "worktree", "hello")
    assert (done.code, done.out) == (0, "mock: hello\n"), done
    assert agentctl("sessions", "list", "-q").out == ""
    assert git(checkout, "branch", "--format=%(refname:short)") == "main\n"
    assert list((Path(os.environ["AGENTCTL_STATE_DIR"]) / "projects").iterdir()) == []


def test_a_copy_comes_back_as_a_patch_or_as_files(checkout, tmp_path):
    session = ("--session", "work", "--agent", "mock", "--project", str(checkout), "--project-mode", "copy")
    assert agentctl("run", *session, EDIT).code == 0
    (tmp_path / "patch").write_text("mine")
    assert agentctl("sessions", "pull", "work", "--patch", str(tmp_path / "patch")).code == 10
    done = agentctl("sessions", "pull", "work", "--patch", str(tmp_path / "patch"), "--yes")
    assert done.out == f"{tmp_path}/patch\n"
    assert agentctl("sessions", "pull", "work", "--patch", "-").out == (tmp_path / "patch").read_text()
    (checkout / "new").write_text("mine\n")
    refused = agentctl("sessions", "pull", "work", "--json")
    assert (refused.code, refused.envelope["error"]["details"]["files"]) == (10, ["new"])
    there = agentctl("sessions", "pull", "work", "--to", str(tmp_path / "there"), "--json").data
    assert there["written"] == ["new", "src/main.py", "where"]
    assert agentctl("sessions", "pull", "work", "--yes").out.split() == ["new", "src/main.py", "where"]
    assert (checkout / "new").read_text() == "new\n"
    assert agentctl("sessions", "pull", "work", "--merge").code == 2
    other = agentctl("run", "--session", "work", "--project", str(tmp_path / "there"), "hello")
    assert other.code == 10
    assert agentctl("sessions", "delete", "--yes", "work").code == 0


def test_the_options_come_from_a_spec_and_are_printed_as_one(checkout, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "agent: mock\nproject: project\nproject_mode: copy\n"
        "copies:\n- project/src:in\n- {source: project, target: all, exclude: ['*.py']}\n"
    )
    shown = agentctl(
        "sessions", "create", "work", "--spec", str(spec), "--copy", "a:b", "--print-config", "--json"
    ).data
    assert shown == {
        "agent": "mock",
        "copies": [
            f"{checkout}/src:in",
            {"source": str(checkout), "target": "all", "exclude": ["*.py"]},
            "a:b",
        ],
        "project": str(checkout),
        "project_mode": "copy",
    }
    assert agentctl("sessions", "create", "work", "--spec", str(spec)).code == 0
    listing = inside("pwd; git log --oneline | wc -l; cd; find in all -type f ! -path '*/.git/*' | sort").out.split()
    assert listing == [agentctl("sessions", "get", "work", "--json").data["cwd"], "1", "all/.gitignore", "in/main.py"]
    wrong = agentctl("sessions", "create", "--agent", "mock", "--project-mode", "copy")
    assert (wrong.code, "without --project" in wrong.err) == (2, True)
    assert agentctl("sessions", "create", "--agent", "mock", "--copy", "nowhere").code == 2
    assert agentctl("sessions", "delete", "--yes", "work").code == 0


def test_a_mounted_project_has_the_same_path_in_a_container_and_is_worked_on(docker, docker_api, checkout):
    warned = agentctl("sessions", "create", "other", "--agent", "mock", "--project", str(checkout), "--no-provision")
    assert warned.code == 0, warned
    assert (f"belongs to user {os.getuid()}" in warned.err) == (os.getuid() != AGENT)
    subprocess.run(["chown", "-R", f"{AGENT}:{AGENT}", checkout], check=True)
    done = agentctl("run", "--session", "work", "--agent", "mock", "--project", str(checkout), EDIT)
    assert done.code == 0, done
    assert (checkout / "where").read_text() == f"{checkout}\n"
    assert agentctl("sessions", "release", "work").code == 0
    assert agentctl("sessions", "diff", "work", "-q").out == "new\nsrc/main.py\nwhere\n"
    assert "has it all" in agentctl("sessions", "pull", "work").err
    assert agentctl("sessions", "delete", "--yes", "work", "other").code == 0
    assert everything_of(docker_api, docker)[0] == []


def test_a_copied_project_outlives_its_container_and_is_told_of_without_one(docker, docker_api, checkout):
    given = ("--session", "work", "--agent", "mock", "--project", str(checkout), "--project-mode", "copy")
    done = agentctl("run", *given, "--project-target", "/workspace", "--copy", f"{checkout}/src:in", EDIT)
    assert done.code == 0, done
    assert not (checkout / "new").exists()
    assert agentctl("sessions", "diff", "work", "-q").out == "new\nsrc/main.py\nwhere\n"
    assert agentctl("sessions", "exec", "work", "--", "cat", "where", "../home/agent/in/main.py").out == (
        "/workspace\none\ntwo\nthree\n"
    )
    assert agentctl("sessions", "release", "work").code == 0
    assert agentctl("sessions", "diff", "work", "-q").out == "new\nsrc/main.py\nwhere\n"
    assert agentctl("sessions", "exec", "work", "--", "cat", "x.log").out == "x\n"
    assert agentctl("sessions", "pull", "work").code == 0
    assert (checkout / "where").read_text() == "/workspace\n"
    assert agentctl("sessions", "delete", "--yes", "work").code == 0
    assert everything_of(docker_api, docker)[0] == []


def test_git_works_in_a_worktree_in_a_container_and_cannot_reach_the_repository(docker, docker_api, checkout):
    given = ("--agent", "mock", "--project", str(checkout), "--project-mode", "worktree", *git_of_this_host())
    config = (checkout / ".git/config").read_text()
    script = (
        "git status --porcelain && git log --oneline | wc -l && echo new > new && git add new && git commit -qm Agent"
        " && git config core.fsmonitor 'touch /tmp/ran' && echo more > more && git log -1 --format='%an %s'"
    )
    assert agentctl("sessions", "create", "work", *given).code == 0
    done = inside(script)
    assert (done.code, done.out) == (0, "1\nMe Agent\n"), done
    own = "/opt/agentctl/project"
    walls = (f"{checkout}/.git", f"{own}/objects-0/x", f"{own}/git/objects/info/alternates")
    tries = [f"! echo x >> {wall}" for wall in walls] + ["! mv .git elsewhere", "echo all refused"]
    assert inside(" && ".join(tries)).out == "all refused\n"
    assert (checkout / ".git/config").read_text() == config
    assert agentctl("sessions", "diff", "work", "-q").out == "more\nnew\n"
    done = agentctl("sessions", "pull", "work", "--merge")
    assert done.code == 0, done
    log = git(checkout, "log", "--format=%an %s").splitlines()
    assert log == ["Me Changes of the agentctl session work", "Me Agent", "me@here first"]
    assert git(checkout, "fsck", "--no-dangling") == ""
    assert inside("echo again > again; git log --oneline | wc -l").out == "2\n"
    assert agentctl("sessions", "pull", "work", "--merge").code == 0
    assert (checkout / "again").read_text() == "again\n"
    assert agentctl("sessions", "delete", "--yes", "work").code == 0
    assert git(checkout, "branch", "--format=%(refname:short)") == "main\n"
    assert everything_of(docker_api, docker)[0] == []
