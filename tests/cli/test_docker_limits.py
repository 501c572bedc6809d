"""The limits, ports and networks of a docker sandbox, as they are asked for on the command line."""

import socket
import urllib.request

import pytest

from tests.cli.running import agentctl, until
from tests.docker.support import everything_of

pytestmark = pytest.mark.slow
_SERVE = "import http.server as h; h.HTTPServer(('', 8000), h.SimpleHTTPRequestHandler).serve_forever()"


@pytest.fixture
def taken():
    """A port of this host that is in use."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield held.getsockname()[1]


def own(docker_api, docker):
    """All that the engine has of us but volumes."""
    return everything_of(docker_api, docker)[0]


def test_the_limits_of_the_command_line_hold_inside(docker, docker_api):
    given = ("--cpus", "0.5", "--memory", "96m", "--read-only", "--port", "8000", "--network", "open")
    assert agentctl("sandboxes", "create", "--id", "small", *given).code == 0
    [listed] = docker_api.containers(filters={"label": f"agentctl.installation={docker}"})
    limits = docker_api.inspect_container(listed["Id"])["HostConfig"]
    assert (limits["NanoCpus"], limits["Memory"], limits["MemorySwap"]) == (500_000_000, 96 << 20, 96 << 20)
    assert (limits["PidsLimit"], limits["ReadonlyRootfs"]) == (512, True)
    exec_ = ("sandboxes", "exec", "small", "--")
    assert agentctl(*exec_, "touch", "/etc/x").code != 0
    assert agentctl(*exec_, "touch", "here", "/tmp/x").code == 0
    assert agentctl(*exec_, "python3", "-c", "bytearray(200 << 20)").code == 137
    bomb = agentctl(*exec_, "sh", "-c", "while sleep 30 & do :; done")
    assert (bomb.code, "can't fork" in bomb.err) == (2, True)
    unkept = agentctl("sandboxes", "logs", "small", "--network")
    assert (unkept.code, "allow=HOST:PORT" in unkept.err) == (2, True)

    facts = agentctl("sandboxes", "get", "small", "--json").data["backend"]["facts"]
    address = facts["ports"]["8000/tcp"]
    assert address.startswith("127.0.0.1:"), "on the loopback alone"
    assert agentctl("sandboxes", "exec", "small", "--detach", "--", "python3", "-c", _SERVE).code == 0
    until(lambda: _answers(address))
    assert agentctl("sandboxes", "delete", "--yes", "small").code == 0
    assert own(docker_api, docker) == []


def _answers(address):
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_what_the_host_cannot_give_is_one_clear_error_and_nothing_is_left(docker, docker_api, taken):
    for given, named, code in (
        (("--cpus", "9000"), "CPU", 8),
        (("--memory", "1k"), "memory", 8),
        (("--port", f"{taken}:8000"), str(taken), 8),
        (("--network", "isolated", "--port", "8000"), "--port", 2),
        (("--network", "allow=localhost:80"), "172.17.0.1", 2),
    ):
        done = agentctl("sandboxes", "create", "--id", "big", *given, "--json")
        assert (done.code, "error" in done.envelope) == (code, True), (given, done)
        error = done.envelope["error"]
        assert named.lower() in f"{error['message']} {error['hint']}".lower(), (given, error)
        assert own(docker_api, docker) == [], given
    assert agentctl("sandboxes", "list", "--json").data == []


def test_what_was_refused_is_told_by_get_and_by_logs(docker, docker_api):
    assert agentctl("sandboxes", "create", "--id", "shy", "--network", "allow=no.invalid:443,*.no.invalid:80").code == 0
    fetch = "import urllib.request as u; u.urlopen('http://example.com:8080/', timeout=20)"
    done = agentctl("sandboxes", "exec", "shy", "--", "python3", "-c", fetch)
    assert done.code == 1
    assert "403" in done.err
    data = agentctl("sandboxes", "get", "shy", "--json").data
    assert [(one["host"], one["port"], one["count"]) for one in data["refused"]] == [("example.com", 8080, 1)]
    assert data["backend"]["facts"]["network_policy"] == "allow"
    assert "example.com:8080  once  it is not on the list" in agentctl("sandboxes", "get", "shy").out
    assert "example.com:8080  once" in agentctl("sandboxes", "logs", "shy", "--network").out
    assert agentctl("sandboxes", "logs", "shy", "--network", "--json").data["refused"] == data["refused"]
    assert agentctl("sandboxes", "delete", "--yes", "shy").code == 0
    assert own(docker_api, docker) == []


def test_a_session_under_an_allow_list_works_and_leaves_no_network(docker, docker_api):
    done = agentctl("run", "--agent", "mock", "--network", "allow=no.invalid:443", "hello")
    assert (done.code, done.out.strip()) == (0, "mock: hello")
    assert own(docker_api, docker) == []
