"""Where a docker sandbox's image comes from, what it trusts, and how agents come into it."""

import asyncio
import base64
import json
import os
import socket
import subprocess
from contextlib import suppress
from dataclasses import replace

import pytest
from docker import errors as sdk

from agentctl import errors
from agentctl.compute import Compute
from agentctl.providers.base import RuntimeBuild
from agentctl.providers.docker import default_image
from agentctl.providers.docker.context import Context
from agentctl.providers.docker.trusted_build import trusting
from agentctl.providers.lookup import open_provider
from agentctl.supervisor_client import SupervisorClient
from agentctl.supervisor_client.processes import Processes
from tests.docker.registry import PASSWORD, USER, Registry
from tests.docker.relay import Relay
from tests.docker.support import everything_of, installation


@pytest.fixture(scope="module")
def registry():
    with Registry() as served:
        yield served


@pytest.fixture
def pulled(docker_api):
    """Names of images that are gone after the test."""
    names = []
    yield names.append
    for name in names:
        with suppress(sdk.ImageNotFound):
            docker_api.remove_image(name, force=True)


@pytest.fixture
def dockerfile(tmp_path, docker_image, docker_api, paths):
    """Write a Dockerfile on the tiny image; return the Compute that names it. Images of the test go after it."""
    place = tmp_path / "context"
    place.mkdir()

    def write(*lines, **compute):
        path = place / "Dockerfile"
        path.write_text("\n".join([f"# {os.urandom(8).hex()}", f"FROM {docker_image}", *lines, ""]))
        return Compute(dockerfile=str(path), **compute)

    yield write
    for about in docker_api.images(filters={"label": f"agentctl.installation={installation(paths)}"}):
        docker_api.remove_image(about["Id"], force=True)


@pytest.fixture
def watched():
    """What was told of progress: a ``Progress``, and what it heard."""

    class Watched(list):
        def __call__(self, what, done, whole):
            self.append((what, done, whole))

    return Watched()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A PEM file as a company hands it out: with a private key in it that nobody should get."""
    place = tmp_path_factory.mktemp("ca")
    subject = ["-subj", "/CN=Heron Company CA", "-days", "2", "-nodes", "-newkey", "rsa:2048"]
    files = ["-keyout", place / "key.pem", "-out", place / "cert.pem"]
    subprocess.run(["openssl", "req", "-x509", *subject, *files], check=True, capture_output=True)
    both = place / "both.pem"
    both.write_text((place / "cert.pem").read_text() + (place / "key.pem").read_text())
    return both


async def run(provider, handle, script):
    endpoint, token = await provider.endpoint(handle)
    async with SupervisorClient(endpoint, token) as client:
        done = await Processes(client).run({"command": "sh", "args": ["-c", script]})
        return done["stdout"].strip()


def made_with(api, label):
    """Images, also those between two steps, and containers of a build whose Dockerfile sets this label."""
    return [*api.images(all=True, filters={"label": label}), *api.containers(all=True, filters={"label": label})]


@pytest.fixture
def label():
    return f"agentctl.test={os.urandom(8).hex()}"


# pulled


async def test_a_missing_image_is_pulled_once_with_progress(provider, registry, pulled, watched):
    name = f"{registry.host}/small:1"
    pulled(name)
    with pytest.raises(errors.UsageError, match="no python3"):  # it is there, and has no Python
        await provider.machine(name, Compute(), watched)
    assert watched[0] == (f"Pulling {name}", None, None)
    assert watched[-1][1] == watched[-1][2] > 400_000
    watched.clear()
    with pytest.raises(errors.UsageError, match="no python3"):
        await provider.machine(name, Compute(), watched)
    assert watched == []


async def test_a_private_image_is_pulled_with_the_docker_commands_login(
    provider, paths, pulled, watched, tmp_path, monkeypatch
):
    with Registry(private=True) as private:
        name = f"{private.host}/small:1"
        with pytest.raises(errors.ImageNotFound) as caught:
            await provider.machine(name, Compute(), watched)
        assert "docker login" in caught.value.hint
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {private.host: {"auth": login}}}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        pulled(name)
        with pytest.raises(errors.UsageError, match="no python3"):
            await open_provider("docker", paths).machine(name, Compute(), watched)


async def test_what_cannot_be_pulled_is_one_clear_error(provider, spec_of, registry, docker_api, paths):
    with socket.socket() as nobody:  # bound, and not listening
        nobody.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{nobody.getsockname()[1]}/small:1"
        for name, said in ((f"{registry.host}/small:2", "Check the name"), (closed, "reach the registry")):
            with pytest.raises(errors.ImageNotFound) as caught:
                await provider.create(replace(spec_of(), image=name))
            assert name in caught.value.message
            assert caught.value.details["said"] in caught.value.message
            assert said in caught.value.hint
            assert f"docker pull {name}" in caught.value.hint
    with pytest.raises(errors.UsageError, match="invalid reference"):
        await provider.create(replace(spec_of(), image="No Name"))
    assert everything_of(docker_api, installation(paths))[0] == []


async def test_an_image_that_only_agentctl_makes_is_never_asked_of_a_registry(provider, watched):
    with pytest.raises(errors.ImageNotFound) as caught:
        await provider.machine("agentctl-runtime:none", Compute(), watched)
    assert "build" in caught.value.hint
    assert watched == []


# built


async def test_a_dockerfile_is_built_once_for_what_is_beside_it(
    provider, dockerfile, create, spec_of, watched, tmp_path
):
    place = tmp_path / "context"
    (place / "data").mkdir()
    (place / "data" / "seen").write_text("one")
    (place / "data" / ".env").write_text("SECRET=canary")
    (place / "data" / "script").write_text("#!/bin/sh\necho script")
    (place / "data" / "script").chmod(0o755)
    (place / "link").symlink_to("data/seen")
    (place / ".dockerignore").write_text("# no secrets\n**/.env\n")
    compute = dockerfile("COPY . /context", "RUN mkdir /made")
    spec = replace(spec_of(), image=None, compute=compute, progress=watched)
    seen = await run(provider, await create(spec), "cd /context; ls -A data; cat link; data/script; ls -d /made")
    assert seen.split() == ["script", "seen", "onescript", "/made"]
    assert any("step 2 of " in what and done == 1 for what, done, _ in watched)
    watched.clear()
    os.utime(place / "data" / "seen", (1, 1))
    name = await provider.check_image(None, compute)
    assert (await provider.machine(name, compute, watched)).image == name
    assert (await provider.machine(None, compute, watched)).image == name
    assert watched == []
    (place / "data" / "seen").write_text("two")
    assert await provider.check_image(None, compute) != name
    (place / "Dockerfile").unlink()
    assert (await provider.machine(name, compute, watched)).image == name  # what a session began with stays
    with pytest.raises(errors.UsageError, match="is gone"):
        await provider.machine(None, compute, watched)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("RUN echo before && echo the reason >&2 && exit 7", "the reason"),
        ("RUUN true", "unknown instruction: RUUN"),
        ("COPY missing /x", "missing"),
        ("FROM 127.0.0.1:1/none:1", "connection refused"),
    ],
)
async def test_a_bad_dockerfile_shows_its_own_error_and_leaves_nothing(
    provider, spec_of, dockerfile, docker_api, paths, label, line, said
):
    spec = replace(spec_of(), image=None, compute=dockerfile(f"LABEL {label}", "RUN echo a step", line))
    with pytest.raises(errors.ImageBuildFailed) as caught:
        await provider.create(spec)
    assert said in caught.value.message
    assert spec.compute.dockerfile in caught.value.message
    assert made_with(docker_api, label) == []
    assert everything_of(docker_api, installation(paths))[0] == []


async def test_a_cancelled_build_ends_at_once_and_leaves_nothing(provider, spec_of, dockerfile, docker_api, label):
    begun = asyncio.Event()

    def told(what, _done, _whole):
        if "sleep 600" in what:
            begun.set()

    lines = (f"LABEL {label}", "RUN echo a step", "RUN sleep 600")
    spec = replace(spec_of(), image=None, compute=dockerfile(*lines), progress=told)
    task = asyncio.create_task(provider.create(spec))
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    for _ in range(600):  # the engine takes its time to end the step
        left = made_with(docker_api, label)
        if not left:
            break
        await asyncio.sleep(0.1)
    assert left == []


async def test_a_file_that_cannot_be_read_is_named(dockerfile, tmp_path):
    context = Context(tmp_path / "context", "Dockerfile")
    dockerfile()
    os.mkfifo(tmp_path / "context" / "pipe")  # is left out
    before = context.digest()
    (tmp_path / "context" / "Dockerfile.dockerignore").write_text("pipe\nDockerfile.dockerignore\n")
    assert context.digest() == before
    (tmp_path / "context" / ".dockerignore").mkdir()
    (tmp_path / "context" / "Dockerfile.dockerignore").unlink()
    with pytest.raises(errors.UsageError, match="dockerignore cannot be read"):
        context.digest()


# the default image


async def test_the_runtime_is_built_from_the_packages_dockerfile_and_is_the_default(
    provider, dockerfile, create, spec_of, docker_image, watched, monkeypatch
):
    monkeypatch.setattr(default_image, "TAG", f"agentctl-runtime:test-{os.getpid()}")
    with pytest.raises(errors.UsageError) as caught:
        await provider.check_image(None, Compute())
    assert "agentctl sandboxes build-runtime" in caught.value.hint
    request = RuntimeBuild(arguments={"BASE": docker_image, "NODE": docker_image})
    done = await provider.build_runtime(request, watched)
    assert (done.tag, done.changed) == (default_image.TAG, True)
    assert not (await provider.build_runtime(request, watched)).changed
    assert await provider.check_image(None, Compute()) is None
    handle = await create(replace(spec_of(), image=None))
    assert (await provider.inspect(handle)).facts["image"] == default_image.TAG
    assert await run(provider, handle, "pwd; id -un") == "/home/agent\nagent"
    with pytest.raises(errors.UsageError, match="no argument OTHER"):
        await provider.build_runtime(RuntimeBuild(arguments={"OTHER": "x"}), watched)


# what it trusts

_TRUSTED = (
    'python3 -c \'import ssl; names = [str(one["subject"]) for one in ssl.create_default_context().get_ca_certs()]; '
    'print(len(names) > 20, any("Heron Company CA" in name for name in names))\''
)


async def test_given_certificates_are_trusted_besides_the_images_own(
    provider, dockerfile, create, spec_of, certificate
):
    compute = dockerfile(f"RUN {_TRUSTED} > /while-built", ca_bundle=str(certificate))
    handle = await create(replace(spec_of(), image=None, compute=compute))
    assert await run(provider, handle, f"cat /while-built; {_TRUSTED}") == "True True\nTrue True"
    await _bundle_is_there(provider, handle)


async def test_an_engine_elsewhere_gets_the_certificates_too(
    docker_engine, docker_image, paths, spec_of, certificate, monkeypatch
):
    with Relay(docker_engine.host.removeprefix("unix://")) as relay:
        monkeypatch.setenv("DOCKER_HOST", relay.url)
        remote = open_provider("docker", paths)
        compute = Compute(ca_bundle=str(certificate), read_only=True)
        volume = await remote.volume_create("default")
        handle = await remote.create(replace(spec_of(), volume=volume, image=docker_image, compute=compute))
        try:
            assert await run(remote, handle, _TRUSTED) == "True True"
            await _bundle_is_there(remote, handle)
        finally:
            await remote.remove(handle)


async def _bundle_is_there(provider, handle):
    said = await run(provider, handle, "cat $REQUESTS_CA_BUNDLE; env; echo x >> $GIT_SSL_CAINFO || echo refused")
    assert "refused" in said
    assert "PRIVATE KEY" not in said
    for name in ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        assert f"{name}=/opt/agentctl/ca/bundle.pem" in said


async def test_a_ca_bundle_that_is_none_is_refused(provider, tmp_path, certificate):
    (tmp_path / "empty").write_text("")
    (tmp_path / "broken").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for path in (tmp_path / "empty", tmp_path / "broken", tmp_path / "none", certificate.with_name("key.pem")):
        with pytest.raises(errors.UsageError, match=f"--ca-bundle {path}"):
            await provider.check_image("x", Compute(ca_bundle=str(path)))


def test_certificates_come_before_the_first_step_of_every_stage(tmp_path, certificate):
    (tmp_path / "Dockerfile").write_text(
        "# escape=`\nFROM a `\n  # why\n  AS one\nRUN x `\n FROM y\nfrom scratch\nCOPY . .\n"
    )
    lines = trusting(Context(tmp_path, "Dockerfile"), str(certificate)).added["Dockerfile"].decode().splitlines()
    copies = [i for i, line in enumerate(lines) if line.startswith("COPY .agentctl")]
    assert [lines[i - 1].strip() for i in copies] == ["AS one", "from scratch"]
