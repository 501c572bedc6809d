"""``agentctl sandboxes build-runtime``, and images on the command line."""

import json
import os
from pathlib import Path

import pytest

from agentctl.paths import StatePaths
from agentctl.providers.docker import default_image
from tests.cli.running import agentctl
from tests.docker.support import installation


@pytest.fixture
def engine(docker_engine, docker_api, monkeypatch):
    """Images of this test's state directory are gone after it."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    own = installation(StatePaths(Path(os.environ["AGENTCTL_STATE_DIR"])))
    yield docker_api
    for about in docker_api.images(filters={"label": f"agentctl.installation={own}"}):
        docker_api.remove_image(about["Id"], force=True)


def build(image, *more, **how):
    bases = ("--build-arg", f"BASE={image}", "--build-arg", f"NODE={image}")
    return agentctl("sandboxes", "build-runtime", *bases, *more, **how)


def test_the_runtime_is_built_once_and_its_steps_are_told(engine, docker_image):
    tag = f"agentctl-test-runtime:{os.getpid()}"
    done = build(docker_image, "--tag", tag)
    assert (done.code, done.out) == (0, f"{tag}\n"), done.err
    steps = [line for line in done.err.splitlines() if line.startswith("Building the default image, step ")]
    assert len(steps) == len(set(steps)) > 5
    again = json.loads(build(docker_image, "--tag", tag, "--provider", "docker", "--json").out)["data"]
    assert again == {"tag": tag, "id": engine.inspect_image(tag)["Id"], "provider": "docker", "changed": False}


def test_on_a_terminal_the_build_is_a_bar_that_leaves_no_trace(engine, docker_image, terminal):
    view = terminal(
        *("sandboxes", "build-runtime", "--tag", f"agentctl-test-runtime:{os.getpid()}-t"),
        *("--build-arg", f"BASE={docker_image}", "--build-arg", f"NODE={docker_image}"),
        columns=100,
    )
    assert view.finish() == 0
    assert b" of 12: " in view.raw  # whichever step it is at after half a second
    assert b"[#" in view.raw
    assert "step" not in view.text


def test_what_cannot_be_built_is_one_clear_error(engine, docker_image, tmp_path):
    before = {about["Id"] for about in engine.images(all=True)}
    done = build("127.0.0.1:1/none:1")
    assert done.code == 8
    assert "connection refused" in done.err
    assert "--build-arg BASE=" in done.err
    assert {about["Id"] for about in engine.images(all=True)} == before
    (tmp_path / "no.pem").write_text("no certificate")
    for arguments, said in (
        (("--ca-bundle", str(tmp_path / "no.pem")), "no PEM file"),
        (("--ca-bundle", str(tmp_path / "none")), "is not a file"),
        (("--provider", "unix_local"), "--provider docker"),
        (("--build-arg", "OTHER=x"), "no argument OTHER"),
    ):
        done = build(docker_image, *arguments)
        assert done.code == 2, done.err
        assert said in done.err


def test_an_image_and_a_dockerfile_are_one_too_many(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "spec.yaml").write_text(f"provider: docker\nimage: x\ndockerfile: {tmp_path}/Dockerfile\n")
    for arguments in (("--image", "x", "--dockerfile", f"{tmp_path}/Dockerfile"), ("--spec", f"{tmp_path}/spec.yaml")):
        done = agentctl("sandboxes", "create", "--provider", "docker", *arguments)
        assert done.code == 2
        assert "--image and --dockerfile cannot go together" in done.err


def test_without_any_image_it_is_the_default_one_or_the_command_that_makes_it_is_named(engine):
    done = agentctl("run", "--provider", "docker", "--agent", "mock", "hello")
    if engine.images(name=default_image.TAG):  # a developer's own
        assert done.out == "mock: hello\n"
    else:
        assert done.code == 2
        assert "agentctl sandboxes build-runtime" in done.err
