"""``--provider docker`` as a user meets it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentctl.paths import StatePaths
from tests.cli.running import agentctl
from tests.docker.support import clear, everything_of, installation


@pytest.fixture
def docker(docker_engine, docker_api, monkeypatch):
    """The name of this state directory's installation; nothing of it is left in the engine afterwards."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    own = installation(StatePaths(Path(os.environ["AGENTCTL_STATE_DIR"])))
    yield own
    clear(docker_api, own)


def test_a_message_is_answered_in_a_container_and_nothing_is_left_that_nobody_asked_for(
    docker, docker_api, docker_image
):
    given = ("--provider", "docker", "--image", docker_image, "--agent", "mock")
    done = agentctl("run", *given, "hello")
    assert (done.code, done.out.strip()) == (0, "mock: hello")
    assert everything_of(docker_api, docker) == ([], [])
    assert agentctl("volumes", "create", "asked-for", "--provider", "docker").code == 0
    assert agentctl("run", *given, "--volume", "asked-for", "hello").code == 0
    assert everything_of(docker_api, docker) == ([], [f"agentctl-{docker}-asked-for"])
    assert agentctl("run", *given, "--workspace", "kept", '@sh!="echo > note"', "--permissions", "allow").code == 0
    assert f"agentctl-{docker}-default" in everything_of(docker_api, docker)[1], "a workspace was asked for"


def test_of_throw_away_runs_at_once_the_last_takes_the_volume_along(docker, docker_api, docker_image):
    given = ("run", "--provider", "docker", "--image", docker_image, "--agent", "mock")
    for delays in ((0, 0), (0, 0.3), (0.3, 0)):
        with ThreadPoolExecutor(2) as pool:
            for done in pool.map(lambda delay: agentctl(*given, f"@delay={delay}"), delays):
                assert done.code == 0, done
        assert everything_of(docker_api, docker) == ([], [])


def test_an_agents_commands_run_as_the_agents_user_in_its_home(docker, docker_image, monkeypatch):
    monkeypatch.setenv("AGENTCTL_IMAGE", docker_image)
    monkeypatch.setenv("AGENTCTL_PROVIDER", "docker")
    agentctl("sessions", "create", "work", "--agent", "mock", "--permissions", "allow")
    done = agentctl("run", "--session", "work", '@sh!="id -u > who; pwd >> who"')
    assert done.code == 0, done.err
    assert agentctl("sessions", "files", "cat", "work", "who").out.split() == ["1000", "/home/agent"]
    assert (
        agentctl("sessions", "exec", "work", "--", "stat", "-c", "%u %a", "who", ".").out.split("\n")[0] == "1000 644"
    )
    agentctl("sessions", "delete", "--yes", "work")


def test_a_killed_container_loses_nothing(docker, docker_api, docker_image):
    given = ("--provider", "docker", "--image", docker_image, "--agent", "mock")
    assert agentctl("run", *given, "--session", "work", "the codeword is heron").code == 0
    [container] = docker_api.containers(filters={"label": f"agentctl.installation={docker}"})
    docker_api.kill(container["Id"])
    done = agentctl("run", "--session", "work", "@context")
    assert done.code == 0, done.err
    assert "heron" in done.out
    assert "heron" in agentctl("sessions", "transcript", "work").out
    assert agentctl("sessions", "release", "work").code == 0
    assert "heron" in agentctl("sessions", "transcript", "work").out
    assert agentctl("sessions", "delete", "--yes", "work").code == 0
    assert everything_of(docker_api, docker)[0] == []


def test_without_an_image_the_option_is_named(docker):
    done = agentctl("run", "--provider", "docker", "--agent", "mock", "hello")
    assert done.code == 2
    assert "--image" in done.err


def test_a_missing_image_is_one_clear_error(docker, docker_api):
    done = agentctl("run", "--provider", "docker", "--image", "no/such:1", "--agent", "mock", "hello")
    assert done.code == 4
    assert "no/such:1" in done.err
    assert "could not be deleted" not in done.err
    assert everything_of(docker_api, docker) == ([], [])


def test_without_an_engine_the_way_to_one_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    done = agentctl("run", "--provider", "docker", "--image", "x", "--agent", "mock", "hello")
    assert done.code == 8
    assert "systemctl start docker" in done.err


def test_an_image_says_nothing_to_a_provider_without_containers():
    done = agentctl("run", "--provider", "unix_local", "--image", "x", "--agent", "mock", "hello")
    assert done.code == 2
    assert "--provider docker" in done.err
