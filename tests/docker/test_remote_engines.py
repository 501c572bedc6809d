"""Engines elsewhere: by TCP with TLS, by ssh. The way is real; the other end of it is the tests' own engine."""

from __future__ import annotations

import os
import shutil
import ssl
import sys
import textwrap

import pytest

from agentctl import errors
from agentctl.compute import Compute
from agentctl.providers.base import SandboxSpec
from agentctl.providers.docker.engine import Engine
from agentctl.providers.lookup import open_provider
from agentctl.supervisor_client import SupervisorClient
from agentctl.supervisor_client.processes import Processes
from tests.contract.conftest import boot_of
from tests.docker import certificates
from tests.docker.relay import Relay
from tests.docker.support import clear, installation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture
def encrypted(docker_engine, certified, monkeypatch):
    """The engine behind a door that wants to see a certificate of our authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified / "server.pem")
    context.load_verify_locations(certified / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certified))
    with Relay(docker_engine.host.removeprefix("unix://"), context) as relay:
        monkeypatch.setenv("DOCKER_HOST", relay.url)
        yield relay


@pytest.fixture
def over_ssh(docker_engine, monkeypatch, tmp_path):
    """A stand-in for ssh that goes nowhere: it notes how it was called, and runs what was to be run over there here."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(
        textwrap.dedent(f"""\
        #!{sys.executable}
        import os, sys
        with open({str(tmp_path / "calls")!r}, "a") as file:
            print(*sys.argv[1:], file=file)
        if "nobody@elsewhere" in sys.argv or "nobody" in sys.argv:
            sys.exit("nobody@elsewhere: Permission denied (publickey).")
        os.environ["DOCKER_HOST"] = {docker_engine.host!r}
        command = sys.argv[sys.argv.index("--") + 2:]
        os.execvp(command[0], command)
        """)
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_HOST", "ssh://dev@elsewhere:2222")
    return tmp_path / "calls"


@pytest.fixture
async def echoed(docker_api, docker_image, paths, known_images):
    """What a command in a sandbox of the engine that is meant says."""
    paths.docker.mkdir()
    (paths.docker / "images").symlink_to(known_images)

    async def run(*words):
        provider = open_provider("docker", paths)
        handle = await provider.create(_spec(await provider.volume_create("default"), docker_image))
        assert (await provider.inspect(handle)).facts["transport"] == "docker exec"
        endpoint, token = await provider.endpoint(handle)
        async with SupervisorClient(endpoint, token) as client:
            done = await Processes(client).run({"command": "echo", "args": list(words)})
        await provider.remove(handle, at_once=True)
        return done["stdout"].strip()

    yield run
    clear(docker_api, installation(paths))


def _spec(volume, image):
    return SandboxSpec(
        sandbox_id="sbx_remote",
        session_id="ses_1",
        volume=volume,
        home="agents/ses_1/home",
        log="agents/ses_1/log",
        boot=boot_of("sbx_remote"),
        image=image,
        compute=Compute(network="none"),
    )


async def ping(url):
    await Engine(url).call("answer", lambda api: api.ping())


async def test_a_sandbox_comes_up_through_tls_with_certificates_of_both_sides(encrypted, echoed):
    assert await echoed("encrypted") == "encrypted"


async def test_an_engine_that_cannot_prove_itself_is_not_spoken_to(encrypted, certified, monkeypatch, tmp_path):
    stranger = certificates.make(tmp_path / "stranger")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(stranger))
    with pytest.raises(errors.ProviderUnavailable, match=r"(?i)certificate") as caught:
        await ping(encrypted.url)
    assert "DOCKER_CERT_PATH" in caught.value.hint
    with pytest.raises(errors.ProviderUnavailable, match=r"(?i)certificate"):
        await Engine(encrypted.url).hijack("/containers/x/attach")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certified))
    with pytest.raises(errors.ProviderUnavailable, match=r"(?i)(certificate|hostname)"):
        await ping(encrypted.url.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "")
    with pytest.raises(errors.ProviderUnavailable):  # never encrypted without being verified
        await ping(encrypted.url)


async def test_certificates_that_are_missing_are_named(encrypted, certified, monkeypatch, tmp_path):
    (tmp_path / "half").mkdir()
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "half"))
    with pytest.raises(errors.ProviderUnavailable, match=r"ca\.pem"):
        await ping(encrypted.url)
    for name in ("ca.pem", "cert.pem"):
        shutil.copyfile(certified / name, tmp_path / "half" / name)
    with pytest.raises(errors.ProviderUnavailable, match=r"needs key\.pem"):
        await Engine(encrypted.url).hijack("/containers/x/attach")


async def test_a_sandbox_comes_up_through_ssh(over_ssh, echoed):
    assert await echoed("through", "ssh") == "through ssh"
    [call, *_] = over_ssh.read_text().splitlines()
    assert call.startswith("-T -o BatchMode=yes ")
    assert call.endswith("-l dev -p 2222 -- elsewhere docker system dial-stdio")


async def test_why_ssh_did_not_get_through_is_told(over_ssh):
    with pytest.raises(errors.ProviderUnavailable) as caught:
        await ping("ssh://nobody@elsewhere")
    assert "Permission denied (publickey)" in caught.value.message
    assert "-- elsewhere docker version" in caught.value.hint


async def test_without_an_ssh_client_the_way_to_one_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.ProviderUnavailable) as caught:
        await ping("ssh://elsewhere")
    assert "openssh-client" in caught.value.hint
