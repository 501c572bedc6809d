"""The logs of processes: on disk within bounds, whole for whoever reads, followed to the end and not beyond it."""

from __future__ import annotations

import asyncio
import base64
import json
import resource
import signal
from contextlib import aclosing

import pytest

from agentctl.supervisor.exec import log as process_log
from agentctl.supervisor.exec.log import ProcessLog
from agentctl.supervisor.exec.redaction import RedactedBytes
from agentctl.supervisor_client.processes import Missing, Output
from tests.supervisor.raw_client import RawClient
from tests.supervisor.test_user_processes import processes, shell, told


@pytest.fixture
async def ours(tmp_path):
    async with processes(tmp_path) as found:
        yield found


@pytest.fixture
def log(tmp_path):
    made = ProcessLog(tmp_path / "p", 10_000)
    yield made
    made.end()


def entries(log, after=0, streams=()):
    """All that is kept after a number."""
    found = []
    while True:
        page = log.read(after, streams)
        found += page.entries
        if page.after == after:
            return found
        after = page.after


# the log itself


def test_pieces_are_numbered_from_one_and_keep_their_order_and_stream(log):
    log.append("stdout", b"a")
    log.append("stderr", b"b\n")
    log.append("stdout", b"c")
    assert [(e.sequence, e.stream, e.data) for e in entries(log)] == [
        (1, "stdout", b"a"),
        (2, "stderr", b"b\n"),
        (3, "stdout", b"c"),
    ]
    assert [e.sequence for e in entries(log, streams=("stdout",))] == [1, 3]
    assert [e.sequence for e in entries(log, after=2)] == [3]
    assert (log.directory / "stdout.log").read_bytes() == b"ac"


def test_a_log_stays_within_its_bounds_and_says_what_is_gone(log):
    for n in range(1000):
        log.append("stdout", b"%099d\n" % n)
    size = sum(f.stat().st_size for f in log.directory.iterdir())
    assert size < 11_000
    page = log.read(0)
    assert page.gap == log.first > 1
    kept = entries(log)
    assert [e.sequence for e in kept] == list(range(log.first, 1001))
    assert kept[-1].data == b"%099d\n" % 999


def test_tiny_pieces_do_not_make_a_log_larger(log):
    for _ in range(5000):
        log.append("stdout", b"x")
    assert sum(f.stat().st_size for f in log.directory.iterdir()) < 11_000


def test_another_supervisor_reads_on_where_this_one_stopped(log):
    for n in range(300):
        log.append("stdout", b"%099d\n" % n)
    before = entries(log)
    log.end()
    index = log.directory / "index"
    index.write_bytes(index.read_bytes() + b"torn")
    again = ProcessLog(log.directory, 10_000)
    assert entries(again) == before
    again.append("stdout", b"next")
    assert entries(again)[-1].sequence == 301
    again.end()


@pytest.mark.parametrize(
    ("pieces", "count", "tail"),
    [
        ([b"1\n2\n", b"3\n"], 2, b"2\n3\n"),
        ([b"1\n2\n", b"3\n"], 1, b"3\n"),
        ([b"1\n2\n", b"3\n"], 3, b"1\n2\n3\n"),
        ([b"1\n2\n", b"3\n"], 99, b"1\n2\n3\n"),
        ([b"1\n2\n", b"3\n"], 0, b""),
        ([b"1\n2", b"2\n3"], 2, b"22\n3"),
        ([b"1\n2", b"2\n3"], 1, b"3"),
        ([b"\n\n\n"], 2, b"\n\n"),
        ([b"no end"], 1, b"no end"),
    ],
)
def test_the_last_lines_are_found_wherever_pieces_end(log, pieces, count, tail):
    for piece in pieces:
        log.append("stdout", piece)
    after, cut = log.before_tail_lines(count)
    assert b"".join(e.data for e in entries(log, after))[cut:] == tail


async def test_a_follower_misses_nothing_for_the_writer_waits(log):
    seen = []

    async def follow():
        async with aclosing(log.follow(0)) as pages:
            async for page in pages:
                assert page.gap is None
                seen.extend(e.sequence for e in page.entries)
                await asyncio.sleep(0.001)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    for n in range(2000):
        room = asyncio.Event()
        if log.must_wait(room.set):
            await room.wait()
        log.append("stdout", b"%099d\n" % n)
    log.end()
    await asyncio.wait_for(following, 10)
    assert seen == list(range(1, 2001))


async def test_a_stuck_follower_holds_up_nobody_for_long_and_is_told_what_it_missed(log, monkeypatch):
    monkeypatch.setattr(process_log, "PATIENCE_S", 0.05)
    async with aclosing(log.follow(0)) as pages:
        log.append("stdout", b"first")
        assert (await anext(pages)).entries[0].data == b"first"
        for n in range(1000):
            room = asyncio.Event()
            if log.must_wait(room.set):
                await asyncio.wait_for(room.wait(), 2)
            log.append("stdout", b"%099d\n" % n)
        page = await anext(pages)
        while page.gap is None:
            page = await anext(pages)
        assert page.gap == log.first


async def test_an_attached_follower_is_waited_for_until_it_goes(log, monkeypatch):
    monkeypatch.setattr(process_log, "PATIENCE_S", 0.01)
    pages = log.follow(0, hold=True)
    log.append("stdout", b"first")
    await anext(pages)
    room = asyncio.Event()
    for n in range(1000):
        if log.must_wait(room.set):
            break
        log.append("stdout", b"%099d\n" % n)
    else:
        raise AssertionError("the writer never had to wait")
    await asyncio.sleep(0.1)
    assert not room.is_set()
    await pages.aclose()
    await asyncio.wait_for(room.wait(), 1)


def test_what_a_full_disk_does_not_take_is_counted_and_said(tmp_path):
    log = ProcessLog(tmp_path / "p", 10**9)
    log.append("stdout", b"x" * 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
        log.append("stdout", b"y" * 1000)
        log.append("stdout", b"z" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    log.append("stdout", b"again")
    log.end()
    kept = entries(log)
    assert b"".join(e.data for e in kept) == b"x" * 1000 + b"y" * 500 + b"again"
    assert sum(e.lost for e in kept) == 1500


# secrets in pieces


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_secret_in_pieces_of_any_size_is_found(size):
    redacted = RedactedBytes(["canary-12345678", "canary-1234-other"])
    text = b"a canary-12345678 b cana canary-1234-other canary-1234"
    out = b"".join(redacted.feed(text[i : i + size]) for i in range(0, len(text), size)) + redacted.flush()
    assert out == b"a [redacted] b cana [redacted] canary-1234"


def test_what_is_no_secret_does_not_wait():
    redacted = RedactedBytes(["canary-12345678"])
    assert redacted.feed(b"password: ") == b"password: "
    assert not redacted.waits
    assert redacted.feed(b"canary-9") == b"canary-9"


# over HTTP


async def test_logs_are_in_the_peers_shape(ours):
    info = await ours.create(shell("echo out; sleep 0.05; echo err >&2"))
    await told(ours, info["id"])
    raw = RawClient(ours.running)
    body = json.loads((await raw.call("GET", f"/v1/processes/{info['id']}/logs")).content)
    assert body["processId"] == info["id"]
    assert body["stream"] == "combined"
    assert [(e["sequence"], e["stream"], base64.b64decode(e["data"])) for e in body["entries"]] == [
        (1, "stdout", b"out\n"),
        (2, "stderr", b"err\n"),
    ]
    assert all(e["encoding"] == "base64" and e["timestampMs"] > info["createdAtMs"] - 1000 for e in body["entries"])
    for query, wanted in (("stream=stderr", [2]), ("since=1", [2]), ("tail=1", [2]), ("tail=0", []), ("since=2", [])):
        found = json.loads((await raw.call("GET", f"/v1/processes/{info['id']}/logs?{query}")).content)
        assert [e["sequence"] for e in found["entries"]] == wanted, query
    for query in ("stream=nonsense", "since=9", "tail=-1", "since=x"):
        assert (await raw.call("GET", f"/v1/processes/{info['id']}/logs?{query}")).status == 400, query
    await raw.close()


async def test_a_followed_log_ends_when_the_process_has_ended(ours):
    info = await ours.create(shell("echo a; sleep 0.1; echo b"))
    raw = RawClient(ours.running)
    path = f"/v1/processes/{info['id']}/logs?follow=true"
    for _ in range(2):  # the second time the process is long dead
        response = await raw.call("GET", path)
        assert response.content.startswith(b"event: log\nid: 1\ndata: {")
        blocks = response.content.strip().split(b"\n\n")
        data = [json.loads(block.split(b"data: ")[1]) for block in blocks]
        assert b"".join(base64.b64decode(d["data"]) for d in data) == b"a\nb\n"
    resumed = await raw.call("GET", path, last_event_id="1")
    assert b"id: 1\n" not in resumed.content
    assert b"id: 2\n" in resumed.content
    await raw.close()


async def test_a_grandchild_that_holds_the_pipe_does_not_keep_a_log_open(ours):
    info = await ours.create(shell("(while :; do echo noise; sleep 0.05; done) & echo done"))
    out, ended = await told(ours, info["id"])
    assert b"done\n" in out["stdout"]
    assert ended["exitCode"] == 0


async def test_a_flood_comes_whole_through_a_log_that_is_much_smaller(ours):
    await ours.limits({"maxLogBytesPerProcess": 100_000})
    info = await ours.create({"command": "seq", "args": ["1", "300000"], "attach": True})
    out, _ = await told(ours, info["id"])
    assert out["stdout"] == b"".join(b"%d\n" % n for n in range(1, 300_001))
    kept = [one async for one in ours.logs(info["id"])]
    assert isinstance(kept[0], Missing)
    assert isinstance(kept[1], Output)
    assert kept[0].first == kept[1].sequence


async def test_a_reader_that_goes_away_does_not_hold_the_process_up(ours):
    await ours.limits({"maxLogBytesPerProcess": 10_000})
    info = await ours.create({"command": "seq", "args": ["1", "1000000"]})
    async for _ in ours.follow(info["id"], attach=True):
        break
    async with asyncio.timeout(30):
        while (await ours.get(info["id"]))["status"] == "running":
            await asyncio.sleep(0.02)


async def test_two_followers_get_the_same(ours):
    info = await ours.create(shell("seq 1 50000; sleep 0.1; seq 1 50000 >&2"))
    one, two = await asyncio.gather(told(ours, info["id"]), told(ours, info["id"]))
    assert one == two
    assert len(one[0]["stdout"].splitlines()) == 50_000


async def test_bytes_come_through_as_they_are(ours):
    info = await ours.create(shell("head -c 200000 /dev/urandom | tee copy"))
    out, _ = await told(ours, info["id"])
    assert out["stdout"] == (ours.running.root / "home" / "copy").read_bytes()
