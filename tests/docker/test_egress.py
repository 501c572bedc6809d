"""The forward proxy of the network policy ``allow``, by itself: what it lets through, and what it writes down."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import pytest

from agentctl.providers.docker.proxy import refused_of
from agentctl.supervisor.egress import proxy as egress
from agentctl.supervisor.egress.policy import Policy, Target, target_of
from agentctl.supervisor.egress.refused import MOST, NOT_LISTED, NOT_PUBLIC, OTHERS, Refused


@pytest.fixture
async def upstream():
    """Says back what it is sent, to its end; ``(port, what it got)``."""
    got = []

    async def serve(reader, writer):
        got.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], got
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def proxy_for(*listed):
    proxy = egress.Proxy(Policy(listed), Refused())
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=egress.HEAD_BYTES)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def say(port, text):
    """All that is answered to ``text``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def test_a_tunnel_and_a_plain_request_reach_what_is_listed(upstream):
    port, got = upstream
    async with proxy_for(f"127.0.0.1:{port}", f"localhost:{port}") as proxy:
        for host in (f"127.0.0.1:{port}", f"LocalHost.:{port}"):
            tunnel = f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\nGET / HTTP/1.1\r\n\r\n"
            answer = await say(proxy, tunnel)
            assert answer.startswith("HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK")
            assert answer.endswith("hello")
        plain = f"POST http://localhost:{port}?q=1 HTTP/1.1\r\nHost: evil\r\nProxy-Authorization: x\r\nA: b\r\n\r\n"
        assert (await say(proxy, plain)).endswith("hello")
    assert got[2].decode() == f"POST /?q=1 HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\nA: b\r\n\r\n"


@pytest.mark.parametrize(
    ("listed", "asked", "status"),
    [
        ("example.com:443", "CONNECT example.com:80 HTTP/1.1", 403),
        ("example.com:443", "CONNECT www.example.com:443 HTTP/1.1", 403),
        ("*.example.com:80", "GET http://example.com/ HTTP/1.1", 403),
        ("127.0.0.1:1", "CONNECT 127.1:1 HTTP/1.1", 403),
        ("localhost:443", "CONNECT localhost:443 HTTP/1.1", 403),
        ("x.invalid:443", "CONNECT x.invalid:443 HTTP/1.1", 502),
        ("127.0.0.1:9", "CONNECT 127.0.0.1:9 HTTP/1.1", 502),
        ("example.com:443", "CONNECT example.com HTTP/1.1", 400),
        ("example.com:443", "CONNECT user@example.com:443 HTTP/1.1", 400),
        ("example.com:443", "CONNECT [::1:443 HTTP/1.1", 400),
        ("example.com:443", "GET /metrics HTTP/1.1", 400),
        ("example.com:443", "GET https://example.com/ HTTP/1.1", 400),
        ("example.com:443", "\x16\x03\x01 hello", 400),
    ],
)
async def test_what_is_not_listed_or_not_public_or_no_request_is_answered_in_words(listed, asked, status):
    async with proxy_for(listed) as proxy:
        answer = await say(proxy, f"{asked}\r\n\r\n")
    head, _, body = answer.partition("\r\n\r\n")
    assert int(head.split()[1]) == status
    assert body.startswith("agentctl: ")
    assert ("X-Agentctl-Network: refused" in head) is (status == 403)


async def test_a_head_without_end_is_cut_off():
    async with proxy_for("example.com:443") as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
        writer.write(b"x" * 4 * egress.HEAD_BYTES)
        said = b""
        with suppress(ConnectionResetError):
            async with asyncio.timeout(60):
                said = await reader.read()
        assert said == b""
        writer.close()


def test_subdomains_of_a_wildcard_are_listed_and_itself_is_not():
    policy = Policy(["*.example.com:443", "[2001:db8::1]:80"])
    assert policy.allows(target_of("a.b.EXAMPLE.com.:443"))
    assert policy.allows(target_of("[2001:0db8:0::1]:80"))
    for other in ("example.com:443", "aexample.com:443", "a.example.com:80", "a.example.com.evil.org:443"):
        assert not policy.allows(target_of(other)), other


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.17.0.1", "192.168.0.1", "169.254.169.254", "100.100.100.200", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "168.63.129.16", "::1", "::", "fe80::1%eth0", "fd00:ec2::254", "ff02::1"),
        *("::ffff:10.1.2.3", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::169.254.169.254"),
    ],
)
def test_a_listed_name_does_not_lead_to_an_address_that_is_not_public(address):
    policy = Policy(["example.com:443", "10.9.9.9:443"])
    assert not policy.reaches(address, 443)
    assert policy.reaches("93.184.215.14", 443)
    assert policy.reaches("2606:2800:21f:cb07::1", 443)
    assert policy.reaches("10.9.9.9", 443), "it was listed itself"
    assert not policy.reaches("10.9.9.9", 80)


@pytest.mark.parametrize(
    "text", ["", "x", "x:0", "x:65536", "x:-1", "-x:1", "a b:1", "x/y:1", "[x]:1", "\xe9:1", "x:1:2"]
)
def test_what_is_no_host_and_port_is_no_target(text):
    with pytest.raises(ValueError):  # noqa: PT011 - its words are for nobody
        target_of(text)
    assert str(Target("::1", 1)) == "[::1]:1"


async def test_the_newest_lines_of_the_log_tell_all_that_was_refused_however_much_it_is(capsys):
    refused = Refused()
    for number in range(MOST + 50):
        refused.add(f"h{number}.example", 443, NOT_LISTED)
    refused.add("h0.example", 443, NOT_PUBLIC)
    refused.add("\x1b[31mevil\n\u202e" + "x" * 1000, 443, NOT_LISTED)
    assert len(capsys.readouterr().out.splitlines()) == 1, "a flood is written once a second"
    refused._write()
    lines = capsys.readouterr().out.encode()
    found = {f"{one['host']}:{one['port']}": one for one in refused_of(lines)}
    assert len(found) == MOST + 1
    assert found["h0.example:443"]["count"] == 2
    assert found["h0.example:443"]["why"] == NOT_PUBLIC
    assert found["h0.example:443"]["first"] <= found["h0.example:443"]["last"]
    assert found[f"{OTHERS}:0"]["count"] == 51
    assert len(lines) < 60_000


def test_of_a_hostile_log_only_what_is_well_formed_and_clean_is_shown():
    good = {"host": "a\x1b[2J" + "b" * 999, "port": 1, "count": 2, "first": 1.0, "last": 2.0, "why": "\x1b[31m"}
    bad = [{**good, "port": "x"}, {**good, "host": 5}, [], "x", None, {**good, "why": 3}, {**good, "count": 1e999}]
    log = b"\n".join([b"ready", b"\xff\xfe", *(json.dumps(one).encode() for one in [*bad, good])])
    [shown] = refused_of(log)
    assert shown["host"].startswith("a?[2J")
    assert len(shown["host"]) == 253
    assert shown["why"] == ""
