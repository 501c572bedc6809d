"""``sessions clone-repo`` and ``--clone``: with real sandboxes, a real git server, and no trace of the token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.running import agentctl
from tests.supervisor.git_server import TOKEN, git_server

WITH_TOKEN = {"REPO_TOKEN": TOKEN}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with git_server(tmp_path_factory.mktemp("git") / "root") as one:
        one.main = one.repository("plain", branch="side")
        one.repository("private")
        yield one


def create(project, *args, name="work", env=None):
    return agentctl(
        "sessions", "create", name, "--agent", "mock", "--cwd", str(project), *args, env=env, cwd=str(project)
    )


def traces(*roots: Path) -> list[Path]:
    """The files below these directories that hold the token."""
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return [path for path in files if TOKEN.encode() in path.read_bytes()]


def state() -> Path:
    return Path(os.environ["AGENTCTL_STATE_DIR"])


@pytest.mark.slow
def test_a_repository_is_cloned_into_a_session(project, server):
    assert create(project, "--no-provision").code == 0
    done = agentctl("sessions", "clone-repo", "work", server.url("plain"))
    assert (done.code, done.out) == (0, f"{project}/plain\n"), done
    assert (project / "plain/file.txt").read_text() == "two"
    told = agentctl("sessions", "clone-repo", "work", server.url("plain"), "--path", "b", "-b", "side", "--json").data
    assert (told["path"], told["branch"], told["cloned"]) == (f"{project}/b", "side", True)
    again = agentctl("sessions", "clone-repo", "work", server.url("plain"), "--json")
    assert (again.code, again.envelope["error"]["code"]) == (10, "already_exists")


@pytest.mark.slow
def test_a_token_is_named_and_never_written(project, server):
    assert create(project, "--no-provision").code == 0
    wanted = ("sessions", "clone-repo", "work", server.url("private"))
    assert agentctl(*wanted).code == 6
    unset = agentctl(*wanted, "--token-env", "REPO_TOKEN")
    assert (unset.code, "REPO_TOKEN" in unset.err) == (6, True)
    wrong = agentctl(*wanted, "--token-env", "REPO_TOKEN", env={"REPO_TOKEN": "wrong-one-1234"})
    assert (wrong.code, "REPO_TOKEN" in wrong.err, "wrong-one" in wrong.err) == (6, True, False)
    done = agentctl(*wanted, "--token-env", "REPO_TOKEN", env=WITH_TOKEN)
    assert done.code == 0, done
    assert TOKEN not in done.out + done.err
    assert traces(project, state()) == []


def test_a_token_in_place_of_its_name_is_refused_and_not_repeated(project, server):
    assert create(project, "--no-provision").code == 0
    done = agentctl("sessions", "clone-repo", "work", server.url("private"), "--token-env", TOKEN)
    assert (done.code, TOKEN in done.err) == (2, False)
    inside = agentctl("sessions", "clone-repo", "work", f"https://x:{TOKEN}@example.org/x.git")
    assert (inside.code, TOKEN in inside.err) == (2, False)


@pytest.mark.slow
def test_a_session_is_created_with_its_repositories(project, server):
    done = create(
        project,
        *("--clone", server.url("plain") + "#side=code/it", "--clone", server.url("private")),
        *("--clone-token-env", "REPO_TOKEN", "--json"),
        env=WITH_TOKEN,
    )
    assert done.code == 0, done
    assert (project / "code/it/file.txt").read_text() == "side"
    assert (project / "private/file.txt").read_text() == "two"
    assert done.data["clones"][0]["branch"] == "side"
    assert traces(project, state()) == []
    (project / "private/file.txt").write_text("changed")
    assert agentctl("sessions", "release", "work").code == 0
    assert agentctl("sessions", "send", "work", "hello").code == 0  # without the token
    assert (project / "private/file.txt").read_text() == "changed"


@pytest.mark.parametrize(
    ("name", "code"), [("missing", 4), ("private", 6), ("plain#no-such-branch", 4), ("plain=taken", 10)]
)
def test_a_clone_that_fails_fails_the_create_and_nothing_is_left(project, server, rows, name, code):
    (project / "taken").mkdir()
    (project / "taken/mine").write_text("mine")
    repository, _, rest = name.partition("#") if "#" in name else name.partition("=")
    sign = name[len(repository) : len(repository) + 1]
    done = create(project, "--clone", server.url("plain") + "=ok", "--clone", server.url(repository) + sign + rest)
    assert done.code == code, done
    assert os.listdir(project) == ["taken"]
    assert rows("select count(*) from sessions") == [(0,)]
    assert rows("select count(*) from sandboxes") == [(0,)]


def test_when_the_agent_does_not_start_the_clone_is_taken_back(project, server, rows):
    done = agentctl(
        *("sessions", "create", "--agent-command", "/nonexistent-agent", "--cwd", str(project)),
        *("--clone", server.url("plain")),
    )
    assert done.code == 7, done
    assert os.listdir(project) == []
    assert rows("select count(*) from sessions") == [(0,)]


@pytest.mark.slow
def test_a_session_that_is_not_provisioned_clones_before_its_first_message(project, server):
    assert create(project, "--no-provision", "--clone", server.url("plain")).code == 0
    assert os.listdir(project) == []
    assert agentctl("sessions", "send", "work", "hello").code == 0
    assert os.listdir(project) == ["plain"]


@pytest.mark.slow
def test_run_clones_before_it_asks(project, server):
    done = agentctl(
        *("run", "--agent", "mock", "--permissions", "allow", "--clone", server.url("plain"), "@read=plain/file.txt"),
        cwd=str(project),
    )
    assert done.code == 0, done
    assert (project / "plain/file.txt").exists()
    failed = agentctl("run", "--agent", "mock", "--clone", server.url("missing"), "hello", cwd=str(project))
    assert failed.code == 4, failed


def test_an_address_that_is_none_changes_nothing(project, rows):
    for url in ("ext::sh -c id", "nothing", "https://tok@host/x"):
        assert create(project, "--clone", url).code == 2
    assert create(project, "--clone-token-env", "REPO_TOKEN").code == 2
    assert not (state() / "agentctl.db").exists() or rows("select count(*) from sessions") == [(0,)]
