"""Mounts that cannot be, or show too much: refused before anything is made."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agentctl import errors
from agentctl.compute import Compute, Mount
from agentctl.model import SessionSpec
from agentctl.ops import mounts
from agentctl.ops.app import App
from agentctl.paths import StatePaths
from tests.cli.running import agentctl
from tests.docker.support import clear, everything_of, installation


@pytest.fixture
def home(tmp_path, monkeypatch):
    place = tmp_path / "users/me"
    (place / "fine").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(place))
    return place


def refusal(*pairs, sure=False):
    """What is said to such mounts; empty when they are made."""
    compute = Compute(mounts=tuple(Mount(source=source, target=target) for source, target in pairs))
    with App.open() as app:
        try:
            mounts.check(app, SessionSpec(agent="mock", compute=compute), sure=sure, report=pytest.fail)
        except errors.UsageError as e:
            return f"{e.message} {e.hint}"
    return ""


def test_what_is_never_shown_to_a_sandbox(home, tmp_path, monkeypatch):
    state = os.environ["AGENTCTL_STATE_DIR"]
    Path(state, "volumes").mkdir()
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as engine, socket.socket(socket.AF_UNIX) as named:
        engine.bind("docker.sock")
        named.bind("other")
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/other")
        (home / "sneaky").symlink_to(tmp_path / "docker.sock")
        for source, target, words in (
            (f"{home}/none", "/x", "no such file"),
            (state, "/x", "own state"),
            (f"{state}/volumes", "/x", "own state"),
            (f"{home}/sneaky", "/x", "container engine"),
            (f"{tmp_path}/other", "/x", "container engine"),
            ("/run", "/x", "container engine"),
            (f"{home}/fine", "/run/agentctl/x", "nothing can be mounted there"),
            (f"{home}/fine", "/", "nothing can be mounted there"),
            (f"{home}/fine", "/x/../etc", "nothing can be mounted there"),
        ):
            assert words in refusal((source, target), sure=True), (source, target)
    assert "both be at /x" in refusal((f"{home}/fine", "/x"), (f"{home}/fine", "/x/"))
    assert refusal((f"{home}/fine", "/x")) == ""


def test_what_shows_too_much_wants_a_yes(home, tmp_path):
    (home / "sneaky").symlink_to("/")
    for source, words in (
        ("/", "every file"),
        (f"{home}/sneaky", "every file"),
        (str(home), "your whole HOME"),
        (str(home.parent), "your whole HOME"),
        (str(tmp_path), "your whole HOME"),
    ):
        said = refusal((source, "/x"))
        assert words in said, source
        assert "--yes" in said
        assert refusal((source, "/x"), sure=True) == ""


@pytest.mark.slow
def test_a_refused_mount_leaves_nothing_and_a_writable_one_is_seen(
    docker_engine, docker_api, docker_image, home, monkeypatch
):
    for name, value in (("DOCKER_HOST", docker_engine.host), ("AGENTCTL_PROVIDER", "docker")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AGENTCTL_IMAGE", docker_image)
    own = installation(StatePaths(Path(os.environ["AGENTCTL_STATE_DIR"])))
    try:
        for command in (("run", "hello"), ("sessions", "create", "work"), ("sandboxes", "create")):
            agent = () if command[0] == "sandboxes" else ("--agent", "mock")
            done = agentctl(*command, *agent, "--mount", "/:/x")
            assert (done.code, "--yes" in done.err) == (2, True), done
        assert everything_of(docker_api, own) == ([], [])
        done = agentctl(
            "sandboxes", "create", "--id", "box", "--mount", f"{home}/fine:/x:rw", "--mount", "/:/y", "--yes"
        )
        assert done.code == 0, done
        assert (f"belongs to user {os.getuid()}" in done.err) == (os.getuid() != 1000)
        (home / "fine/file").write_text("seen\n")
        assert (
            agentctl("sandboxes", "exec", "box", "--", "sh", "-c", "cat /x/file; ls -d /y/usr").out == "seen\n/y/usr\n"
        )
        assert agentctl("sandboxes", "delete", "--yes", "box").code == 0
    finally:
        clear(docker_api, own)


def test_a_project_may_not_be_the_whole_home_without_a_yes(home):
    done = agentctl("run", "--agent", "mock", "--project", str(home), "--project-mode", "mount", "hello")
    assert (done.code, "your whole HOME" in done.err) == (2, True)
    done = agentctl("run", "--agent", "mock", "--project", str(home), "--yes", "hello")
    assert (done.code, done.out) == (0, "mock: hello\n"), done
