"""What a docker sandbox reaches under each network policy, and what it does not."""

import asyncio
import json
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network

import pytest

from agentctl import errors
from agentctl.compute import Compute, Port, Service
from agentctl.providers.docker import network
from agentctl.providers.docker.network import name_of
from agentctl.providers.docker.proxy import name_of as proxy_of
from agentctl.providers.lookup import open_provider
from agentctl.supervisor_client import SupervisorClient
from agentctl.supervisor_client.processes import Processes
from tests.docker.relay import Relay
from tests.docker.support import everything_of, installation

_TRY = """
import json, socket, ssl, sys, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
loose = ssl.create_default_context()
loose.check_hostname, loose.verify_mode = False, ssl.CERT_NONE

def fetch(url):
    try:
        with urllib.request.urlopen(url, timeout=20, context=loose) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code
    except OSError as e:
        return str(e)

def reach(address):
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True

def find(name):
    try:
        return socket.gethostbyname(name)
    except OSError:
        return None

does = {"fetch": fetch, "reach": reach, "find": find}
with ThreadPoolExecutor(16) as together:
    print(json.dumps(list(together.map(lambda one: does[one[0]](one[1]), json.loads(sys.argv[1])))))
"""


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"hello from the host"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Host:
    """This machine as containers may see it: an HTTP and an HTTPS server on every address it has."""

    def __init__(self, gateway, ports):
        self.gateway, (self.http, self.https) = gateway, ports
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.connect(("192.0.2.1", 9))  # sends nothing
            self.uplink = asked.getsockname()[0]

    @property
    def addresses(self):
        """All its servers' ``address:port``."""
        return [f"{host}:{port}" for host in {self.gateway, self.uplink} for port in (self.http, self.https)]


@pytest.fixture(scope="module")
def host(docker_api, tmp_path_factory):
    place = tmp_path_factory.mktemp("tls")
    make = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=host -keyout key -out crt"
    )
    subprocess.run(make.split(), cwd=place, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(place / "crt", place / "key")
    servers = [ThreadingHTTPServer(("", 0), _Answer) for _ in range(2)]
    servers[1].socket = tls.wrap_socket(servers[1].socket, server_side=True)
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}) for server in servers]
    for thread in threads:
        thread.start()
    [about] = docker_api.inspect_network("bridge")["IPAM"]["Config"]
    gateway = about.get("Gateway") or str(ip_network(about["Subnet"])[1])
    yield Host(gateway, [server.server_address[1] for server in servers])
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


async def run(provider, handle, *argv):
    endpoint, token = await provider.endpoint(handle)
    async with SupervisorClient(endpoint, token) as client:
        done = await Processes(client).run({"command": argv[0], "args": list(argv[1:])})
        assert done["exitCode"] == 0, done
        return done["stdout"]


async def attempt(provider, handle, *wanted):
    """What became of each ``(what, which)``."""
    return json.loads(await run(provider, handle, "python3", "-IS", "-c", _TRY, json.dumps(wanted)))


@pytest.fixture
def with_network(spec_of, create):
    async def make(policy, *allow, **fields):
        return await create(replace(spec_of(**fields), compute=Compute(network=policy, allow=allow)))

    return make


def left(docker_api, paths):
    """All that is in the engine but the volume."""
    containers, volumes = everything_of(docker_api, installation(paths))
    return containers + [name for name in volumes if not name.endswith("-default")]


async def test_an_open_sandbox_without_services_is_on_the_engines_own_bridge(provider, with_network, host):
    handle = await with_network("open")
    facts = (await provider.inspect(handle)).facts
    assert (facts["network"], facts["network_policy"]) == ("bridge", "open")
    assert await attempt(provider, handle, ("fetch", f"http://{host.gateway}:{host.http}/")) == ["hello from the host"]


async def test_an_isolated_sandbox_reaches_nothing_and_nobody_and_is_reached_itself(
    provider, with_network, docker_api, host, paths
):
    other = await with_network("isolated")
    handle = await with_network("isolated")
    [theirs] = docker_api.inspect_container(other["container"])["NetworkSettings"]["Networks"].values()
    [own] = docker_api.inspect_container(handle["container"])["NetworkSettings"]["Networks"].values()
    assert ip_network(f"{own['IPAddress']}/26", strict=False) != ip_network(f"{theirs['IPAddress']}/26", strict=False)
    endpoint, token = await provider.endpoint(other)
    async with SupervisorClient(endpoint, token) as client:
        await Processes(client).create({"command": "python3", "args": ["-m", "http.server", "8000"]})
    addresses = [*host.addresses, f"{theirs['IPAddress']}:8000", "1.1.1.1:443", "169.254.169.254:80"]
    addresses += [f"{net['Gateway']}:{host.http}" for net in (own, theirs) if net["Gateway"]]
    assert await attempt(provider, handle, *(("reach", address) for address in addresses)) == [False] * len(addresses)
    names = ("example.com", "deb.debian.org", name_of(other["sandbox"]))
    assert await attempt(provider, handle, *(("find", name) for name in names)) == [None] * len(names)
    assert (await attempt(provider, handle, ("find", "sandbox")))[0] == own["IPAddress"]
    assert docker_api.inspect_container(handle["container"])["HostConfig"]["Dns"] == ["127.0.0.1"]
    assert (await provider.inspect(handle)).facts["network_policy"] == "isolated"
    for one in (handle, other):
        await provider.remove(one)
    assert left(docker_api, paths) == []


async def test_an_allowed_host_is_reached_through_the_proxy_and_the_rest_is_refused_and_told(
    provider, with_network, docker_api, host
):
    handle = await with_network("allow", f"{host.gateway}:{host.http}", f"{host.gateway}:{host.https}")
    found = await attempt(
        provider,
        handle,
        ("fetch", f"http://{host.gateway}:{host.http}/"),
        ("fetch", f"https://{host.gateway}:{host.https}/"),
        ("fetch", f"http://{host.uplink}:{host.http}/"),
        ("fetch", "https://example.com/"),
        ("fetch", "https://example.com/"),
        *(("reach", address) for address in host.addresses),
        ("find", "example.com"),
    )
    assert found[:3] == ["hello from the host"] * 2 + [403]
    assert all("403" in said for said in found[3:5])
    assert found[5:] == [False] * len(host.addresses) + [None]
    assert "hello" in await run(provider, handle, "wget", "-qO-", f"http://{host.gateway}:{host.http}/")
    state = await provider.inspect(handle)
    refused = {(one["host"], one["port"]): one["count"] for one in state.facts["refused"]}
    assert refused[(host.uplink, host.http)] == 1
    assert ("example.com", 443) in refused
    assert (state.status, state.detail, state.facts["network_policy"]) == ("running", "", "allow")

    about = docker_api.inspect_container(proxy_of(handle["sandbox"]))
    walls = about["HostConfig"]
    assert (walls["CapDrop"], walls["CapAdd"], walls["ReadonlyRootfs"]) == (["ALL"], None, True)
    assert (walls["PidsLimit"], walls["Memory"], about["Config"]["User"]) == (64, 128 << 20, "65534:65534")
    assert [mount["RW"] for mount in about["Mounts"]] == [False], "its program, and nothing else"
    assert walls["SecurityOpt"] == ["no-new-privileges:true"]
    bridge = about["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    with pytest.raises(OSError):  # noqa: PT011 - refused: it serves its sandbox and nobody else
        await asyncio.open_connection(bridge, network.EGRESS_PORT)


async def test_with_a_dead_proxy_there_is_no_way_out_and_inspect_says_it(
    provider, with_network, docker_api, host, paths
):
    url = f"http://{host.gateway}:{host.http}/"
    handle = await with_network("allow", f"{host.gateway}:{host.http}")
    await attempt(provider, handle, ("fetch", "http://example.com/"))
    docker_api.kill(proxy_of(handle["sandbox"]))
    docker_api.wait(proxy_of(handle["sandbox"]), timeout=30)
    state = await provider.inspect(handle)
    assert state.status == "running"
    assert "the proxy ended with exit code 137" in state.detail
    assert [one["host"] for one in state.facts["refused"]] == ["example.com"], "its log outlives it"
    [said, direct] = await attempt(provider, handle, ("fetch", url), ("reach", f"{host.gateway}:{host.http}"))
    assert "hello" not in str(said)
    assert direct is False
    docker_api.remove_container(proxy_of(handle["sandbox"]), force=True)
    assert "the proxy is gone" in (await provider.inspect(handle)).detail
    await provider.remove(handle)
    assert left(docker_api, paths) == []


async def test_the_proxy_comes_to_an_engine_elsewhere_too(docker_engine, paths, provider, spec_of, host, monkeypatch):
    with Relay(docker_engine.host.removeprefix("unix://")) as relay:
        monkeypatch.setenv("DOCKER_HOST", relay.url)
        remote = open_provider("docker", paths)
        volume = await remote.volume_create("default")
        allow = Compute(network="allow", allow=(f"{host.gateway}:{host.http}",))
        handle = await remote.create(replace(spec_of(), volume=volume, compute=allow))
        try:
            assert await attempt(remote, handle, ("fetch", f"http://{host.gateway}:{host.http}/")) == [
                "hello from the host"
            ]
        finally:
            await remote.remove(handle)


async def test_a_network_or_a_proxy_of_another_with_the_same_name_stays_and_nothing_else_is_left(
    provider, spec_of, docker_api, docker_image, paths
):
    for policy, make, drop in (
        ("isolated", docker_api.create_network, docker_api.remove_network),
        ("allow", lambda name: docker_api.create_container(docker_image, name=name), docker_api.remove_container),
    ):
        spec = replace(spec_of(), compute=Compute(network=policy, allow=("x:1",)))
        theirs = make(name_of(spec.sandbox_id) if policy == "isolated" else proxy_of(spec.sandbox_id))["Id"]
        try:
            with pytest.raises(errors.Conflict):
                await provider.create(spec)
            assert left(docker_api, paths) == []
        finally:
            drop(theirs)


async def test_a_proxy_that_does_not_start_takes_the_sandbox_with_it(provider, spec_of, docker_api, paths, monkeypatch):
    monkeypatch.setattr(network, "EGRESS_PORT", "no port")
    with pytest.raises(errors.SandboxError, match="does not start"):
        await provider.create(replace(spec_of(), compute=Compute(network="allow", allow=("x:1",))))
    assert left(docker_api, paths) == []


@pytest.mark.parametrize("moment", [0.1, 0.4])
async def test_a_cancelled_create_leaves_no_network(provider, spec_of, docker_api, paths, moment):
    making = asyncio.create_task(provider.create(replace(spec_of(), compute=Compute(network="allow", allow=("x:1",)))))
    await asyncio.wait([making], timeout=moment)
    making.cancel()
    with suppress(asyncio.CancelledError):
        await provider.remove(await making)
    assert left(docker_api, paths) == []


async def test_a_sandbox_of_which_only_the_network_is_left_is_found_and_removed(
    provider, with_network, docker_api, paths
):
    handle = await with_network("allow", "x:1", labels={"team": "web"})
    docker_api.remove_container(handle["container"], force=True, v=True)
    [found] = [one async for one in provider.find_by_labels({"team": "web"})]
    assert (found.sandbox_id, found.handle["sandbox"]) == (handle["sandbox"], handle["sandbox"])
    docker_api.remove_container(proxy_of(handle["sandbox"]), force=True, v=True)
    [found] = [one async for one in provider.find_by_labels({"team": "web"})]
    await provider.remove(found.handle)
    assert left(docker_api, paths) == []


@pytest.mark.parametrize(
    ("compute", "named"),
    [
        (Compute(network="isolated", ports=(Port(container=80),)), "--port"),
        (Compute(network="none", ports=(Port(container=80),)), "--port"),
        (Compute(network="allow", allow=("x:1",), ports=(Port(container=80),)), "--port"),
        (Compute(network="none", services=(Service(name="db", image="x"),)), "isolated"),
        (Compute(services=(Service(name="sandbox", image="x"),)), "Rename"),
        (Compute(network="allow", allow=("127.0.0.1:80",)), "172.17.0.1"),
        (Compute(network="allow", allow=("localhost:80",)), "172.17.0.1"),
    ],
)
def test_what_no_network_can_be_is_refused_with_what_helps(compute, named):
    with pytest.raises(errors.UsageError) as refused:
        network.check(compute)
    assert named in f"{refused.value} {refused.value.hint}"


def test_a_sandboxs_subnet_hides_nothing_that_this_host_has_a_route_to(monkeypatch, tmp_path):
    routes = tmp_path / "route"
    head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
    lines = "eth0\t00000000\t0100000A\t3\t0\t0\t0\t00000000\neth0\t0000000A\t0\t1\t0\t0\t0\t000000FF\n"
    routes.write_text(f"{head}{lines}")
    monkeypatch.setattr(network, "_ROUTES", routes)
    assert network._routes() == [ip_network("10.0.0.0/8")]

    class Here:
        is_local = True

    for _ in range(5):
        for subnet in network._subnets(Here()):
            assert not subnet.overlaps(ip_network("10.0.0.0/8"))
            assert subnet.prefixlen == 26
