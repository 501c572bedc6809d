"""The session log: what is appended stays, in order, and is found again."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import time

import pytest

from agentctl import errors
from agentctl.events import Draft
from agentctl.supervisor.log import files as log_files
from agentctl.supervisor.log import pages as log_pages
from agentctl.supervisor.log.session_log import LogReader, SessionLog


def some(count, text="hello", *, raw=False):
    frame = b'{"jsonrpc":"2.0","method":"session/update"}' if raw else None
    return [Draft("item.delta", {"item_id": "itm_1", "delta": f"{text} {n}"}, raw=frame) for n in range(count)]


def numbers(log, after=0, **options):
    """All that can be read after a number, page by page."""
    found = []
    while page := log.read(after, **options):
        found += [record.sequence for record in page]
        after = found[-1]
    return found


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def log(directory):
    with SessionLog(directory, "ses_1") as opened:
        yield opened


def test_an_event_has_every_field_of_the_schema_and_begins_with_its_number(log):
    assert (
        log.append(
            [Draft("turn.started", {"phase": "started"}, "daemon", synthetic=True)],
            turn_id="trn_1",
            native_session_id="n",
        )
        == 1
    )
    (record,) = log.read(0)
    assert record.line.startswith(b'{"sequence":1,')
    event = json.loads(record.line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("time"))
    assert list(event) == [
        "sequence", "event_id", "session_id", "native_session_id", "turn_id", "source", "synthetic", "type", "data",
    ]  # fmt: skip
    assert event["event_id"] == "evt_1"
    assert event["source"] == "daemon"
    assert event["synthetic"] is True
    assert (event["session_id"], event["native_session_id"], event["turn_id"]) == ("ses_1", "n", "trn_1")


def test_directory_and_files_are_private(log, directory):
    log.append(some(1), turn_id=None)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_a_raw_frame_comes_back_only_when_asked_for(log):
    log.append(some(1, raw=True), turn_id=None)
    log.append(some(1), turn_id=None)
    assert [record.raw for record in log.read(0)] == [None, None]
    assert [record.raw for record in log.read(0, raw=True)] == [b'{"jsonrpc":"2.0","method":"session/update"}', None]
    assert log.read(0)[0].line == log.read(0, raw=True)[0].line


@pytest.mark.parametrize(
    ("frame", "kept"),
    [
        (b'{"a":\t1}', b'{"a":1}'),
        (b'{"a":\n1}', b'{"a":1}'),
        (b"no\tframe\xff", '"no\\tframe\ufffd"'.encode()),
    ],
)
def test_a_raw_frame_with_a_tab_or_newline_is_dumped_again(log, frame, kept):
    log.append([Draft("agent.unparsed", {}, raw=frame)], turn_id=None)
    assert log.read(0, raw=True)[0].raw == kept


def test_text_that_no_utf8_or_json_can_hold_is_written_as_what_all_can_read(log):
    log.append([Draft("item.delta", {"delta": "\ud800", "n": float("nan"), "m": [float("inf")]})], turn_id=None)
    log.append([Draft("item.delta", {"delta": "grüße 🙂"})], turn_id=None)
    odd, plain = (json.loads(record.line.decode("utf-8"))["data"] for record in log.read(0))
    assert odd == {"delta": "\ud800", "n": None, "m": [None]}
    assert plain == {"delta": "grüße 🙂"}


@pytest.mark.parametrize(
    "data",
    [
        {"item_id": "itm_1", "delta": 'a "b" \\ \n\t\x00 é 😀 \u2028'},
        {"item_id": "itm_1", "delta": "", "native_item_id": "m/1"},
        {"item_id": "itm_1", "delta": "a", "native_item_id": 5},
        {"item_id": "itm_1", "delta": "a", "replayed": True},
        {"item_id": "itm_1", "delta": "a", "native_item_id": "m", "replayed": True},
        {"item_id": "itm_1", "text": "a"},
        {"item_id": "itm_1"},
    ],
)
def test_a_piece_of_text_is_written_as_any_other_event(log, data):
    log.append([Draft(kind, data, raw=b"{}") for kind in ("item.delta", "item.other")], turn_id="trn_1")
    piece, other = log.read(0, raw=True)
    assert json.loads(piece.line)["data"] == data
    assert re.sub(rb"\b(evt_)?\d+\b", b"N", piece.line) == re.sub(
        rb"\b(evt_)?\d+\b", b"N", other.line.replace(b"item.other", b"item.delta")
    )
    assert piece.raw == other.raw == b"{}"


def test_a_surrogate_in_a_piece_of_text_is_written_as_an_escape(log):
    log.append([Draft("item.delta", {"item_id": "itm_1", "delta": "\ud800"})], turn_id=None)
    assert json.loads(log.read(0)[0].line)["data"]["delta"] == "\ud800"


def test_reading_is_paged_by_count_and_by_bytes_and_always_gives_one(log):
    log.append(some(100), turn_id=None)
    assert [record.sequence for record in log.read(10, limit=3)] == [11, 12, 13]
    assert len(log.read(0, max_bytes=1)) == 1
    assert 1 < len(log.read(0, max_bytes=1000)) < 10
    assert log.read(0, limit=0) == []
    assert log.read(100) == log.read(5000) == []
    assert numbers(log, max_bytes=700) == list(range(1, 101))


def test_a_record_larger_than_a_page_and_a_segment_is_read_whole(directory):
    with SessionLog(directory, "ses_1", segment_bytes=1000) as log:
        log.append([*some(2), Draft("item.delta", {"delta": "x" * 3_000_000}), *some(2)], turn_id=None)
        log.append(some(1), turn_id=None)
        assert numbers(log, max_bytes=100) == [1, 2, 3, 4, 5, 6]
        assert [numbers(log, after)[0] for after in range(6)] == [1, 2, 3, 4, 5, 6]


def test_segments_are_named_by_their_first_record_and_any_number_is_found_in_them(directory):
    with SessionLog(directory, "ses_1", segment_bytes=200_000) as log:
        for batch in range(60):
            log.append(some(50, "é" * (batch % 7) * 20, raw=batch % 2 == 0), turn_id=None)
        names = sorted(path.name for path in directory.glob("*.jsonl"))
        assert len(names) > 3
        assert names[0] == "00000000000000000001.jsonl"
        for name in names:
            first_line = (directory / name).read_bytes().split(b",")[0]
            assert first_line == b'{"sequence":%d' % int(name.split(".")[0])
        for after in (*range(0, 3000, 37), 2998, 2999):
            assert log.read(after, limit=1)[0].sequence == after + 1
            assert LogReader(directory).read(after, limit=1)[0] == log.read(after, limit=1)[0]
        assert numbers(log) == list(range(1, 3001))


def test_a_page_in_the_middle_costs_the_page_and_not_the_history(log, monkeypatch):
    for _ in range(100):
        log.append(some(200), turn_id=None)
    seen = []
    real = os.pread

    def pread(fd, size, offset):
        seen.append(size)
        return real(fd, size, offset)

    monkeypatch.setattr(log_pages.os, "pread", pread)
    assert log.read(15_000, max_bytes=4000)[0].sequence == 15_001
    assert sum(seen) < 400_000  # of 3.5 MB
    assert len(seen) < 30


def test_reopening_goes_on_with_the_next_number(directory):
    with SessionLog(directory, "ses_1") as log:
        log.append(some(3), turn_id=None)
    with SessionLog(directory, "ses_1") as log:
        assert (log.first_sequence, log.last_sequence) == (1, 3)
        assert log.append(some(1), turn_id=None) == 4
        assert numbers(log) == [1, 2, 3, 4]


def test_a_store_that_knows_more_makes_a_gap_which_is_said_first(directory):
    with SessionLog(directory, "ses_1") as log:
        log.append(some(3), turn_id=None)
    with SessionLog(directory, "ses_1", min_sequence=10) as log:
        gap = json.loads(log.read(3)[0].line)
        assert gap["sequence"] == 11
        assert (gap["type"], gap["source"]) == ("log.gap", "daemon")
        assert gap["data"] == {"from": 4, "to": 10}
        log.append(some(1), turn_id=None)
        assert numbers(log) == [1, 2, 3, 11, 12]
        assert [numbers(log, after)[0] for after in (2, 3, 7, 10, 11)] == [3, 11, 11, 11, 12]
    with SessionLog(directory, "ses_1", min_sequence=5) as log:
        assert log.last_sequence == 12


def test_what_is_no_longer_kept_is_said_and_never_skipped(directory):
    with SessionLog(directory, "ses_1", min_sequence=10) as log:
        assert log.first_sequence == 11
        for read in (log.read, LogReader(directory).read):
            with pytest.raises(errors.SequenceExpired) as raised:
                read(9)
            assert raised.value.details == {"first": 11, "last": 11}
            assert read(10)[0].sequence == 11


async def test_following_what_is_no_longer_kept_is_refused_too(directory):
    with SessionLog(directory, "ses_1", min_sequence=10) as log, pytest.raises(errors.SequenceExpired):
        await anext(log.follow(0))


def test_two_writers_cannot_exist(directory, log):
    with pytest.raises(errors.Conflict, match="Another supervisor"):
        SessionLog(directory, "ses_1")
    log.close()
    SessionLog(directory, "ses_1").close()


def test_a_closed_log_can_be_read_and_not_written(log):
    log.append(some(2), turn_id=None)
    log.close()
    log.close()
    assert numbers(log) == [1, 2]
    with pytest.raises(errors.StateError, match="closed"):
        log.append(some(1), turn_id=None)


def test_appending_nothing_changes_nothing(log):
    assert log.append([], turn_id=None) == 0
    assert (log.first_sequence, log.last_sequence) == (1, 0)
    assert log.read(0) == []


def test_a_directory_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StateNotWritable, match="Not a directory"):
        SessionLog(tmp_path / "file" / "log", "ses_1")


def test_a_full_disk_takes_the_whole_batch_back_and_the_log_goes_on(directory, tmp_path):
    """In a process of its own: the limit on the size of files is the process's."""
    program = f"""
import resource, signal
from pathlib import Path
from agentctl import errors
from agentctl.events import Draft
from agentctl.supervisor.log.session_log import SessionLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
some = lambda n: [Draft("item.delta", {{"delta": "x" * 100}})] * n
log = SessionLog(Path({str(directory)!r}), "ses_1")
log.append(some(5), turn_id=None)
before = (Path({str(directory)!r}) / "00000000000000000001.jsonl").read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 700, resource.RLIM_INFINITY))
try:
    log.append(some(10), turn_id=None)
except errors.DiskFull as e:
    print(e.message)
assert (Path({str(directory)!r}) / "00000000000000000001.jsonl").read_bytes() == before
assert log.last_sequence == 5
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert log.append(some(1), turn_id=None) == 6
print([r.sequence for r in log.read(0)])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Cannot write the session log" in done.stdout
    assert "[1, 2, 3, 4, 5, 6]" in done.stdout


def test_a_durable_record_is_synced_before_anyone_sees_it(directory, monkeypatch):
    with SessionLog(directory, "ses_1", segment_bytes=500) as log:
        synced = []

        def sync(fd):
            synced.append((os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2], log.last_sequence))

        monkeypatch.setattr(log_files, "sync", sync)
        for _ in range(3):
            log.append(some(2), turn_id=None)
        assert synced == []
        log.append(some(1), turn_id=None, durable=True)
        assert {name for name, _ in synced} >= {f"{n:020d}.jsonl" for n in (1, 3, 5)}
        assert {seen for _, seen in synced} == {6}
        monkeypatch.undo()


def test_a_kill_loses_nothing_that_was_shown(directory):
    program = f"""
import sys
from pathlib import Path
from agentctl.events import Draft
from agentctl.supervisor.log.session_log import SessionLog
log = SessionLog(Path({str(directory)!r}), "ses_1", segment_bytes=20000)
while True:
    print(log.append([Draft("item.delta", {{"delta": "x" * 50}})] * 7, turn_id=None), flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        shown = [int(process.stdout.readline()) for _ in range(50)][-1]
        process.send_signal(signal.SIGKILL)
        shown = ([shown] + [int(line) for line in process.stdout.read().splitlines()])[-1]
    with SessionLog(directory, "ses_1") as log:
        assert log.last_sequence >= shown
        assert numbers(log) == list(range(1, log.last_sequence + 1))


# Followers


async def follow_until(log, last, after=0, pause=None):
    found = []
    async for page in log.follow(after, max_bytes=1000):
        found += [record.sequence for record in page]
        if pause:
            await pause()
        if found[-1] >= last:
            break
    return found


async def test_followers_see_history_then_live_without_gap_whatever_their_speed(directory):
    async def slowly():
        for _ in range(5):
            await asyncio.sleep(0)

    with SessionLog(directory, "ses_1", segment_bytes=5000) as log:
        log.append(some(100), turn_id=None)
        readers = [
            asyncio.create_task(follow_until(log, 1100)),
            asyncio.create_task(follow_until(log, 1100, after=57)),
            asyncio.create_task(follow_until(log, 1100, pause=slowly)),
        ]
        for _ in range(100):
            log.append(some(10), turn_id=None)
            await asyncio.sleep(0)
        found = await asyncio.gather(*readers)
    assert found == [list(range(1, 1101)), list(range(58, 1101)), list(range(1, 1101))]


async def test_following_ends_after_the_last_record_when_the_log_is_closed(log):
    log.append(some(3), turn_id=None)
    found = []

    async def read_all():
        async for page in log.follow(0):
            found.extend(record.sequence for record in page)

    reader = asyncio.create_task(read_all())
    while not found:
        await asyncio.sleep(0)
    log.append(some(2), turn_id=None)
    log.close()
    await asyncio.wait_for(reader, 5)
    assert found == [1, 2, 3, 4, 5]


async def test_a_follower_ahead_of_the_log_waits_for_its_number(log):
    log.append(some(3), turn_id=None)
    reader = asyncio.create_task(follow_until(log, 6, after=5))
    await asyncio.sleep(0)
    log.append(some(2), turn_id=None)
    await asyncio.sleep(0)
    log.append(some(2), turn_id=None)
    assert await asyncio.wait_for(reader, 5) == [6, 7]


async def test_a_cancelled_follower_leaves_nothing_behind(log):
    descriptors = len(os.listdir("/proc/self/fd"))
    log.append(some(3), turn_id=None)
    reader = asyncio.create_task(follow_until(log, 99))
    for _ in range(5):
        await asyncio.sleep(0)
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    assert log._news._waiting == []
    assert len(os.listdir("/proc/self/fd")) == descriptors + 1  # the segment itself


# Another process


def test_a_reader_in_another_process_sees_only_whole_records_in_order(directory):
    program = f"""
import json
from pathlib import Path
from agentctl.supervisor.log.session_log import LogReader
reader, after = LogReader(Path({str(directory)!r})), 0
print("ready", flush=True)
while after < 3000:
    for record in reader.read(after, max_bytes=3000, raw=True):
        event = json.loads(record.line)
        assert event["sequence"] == record.sequence == after + 1, (event, after)
        assert record.raw is None or json.loads(record.raw)
        after = record.sequence
print("read", after)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        with SessionLog(directory, "ses_1", segment_bytes=50_000) as log:
            for batch in range(300):
                log.append(some(10, "y" * batch * 5, raw=batch % 3 == 0), turn_id=None)
        assert process.stdout.read() == "read 3000\n"
    assert process.returncode == 0


def test_a_reader_of_a_missing_log_finds_nothing(tmp_path):
    reader = LogReader(tmp_path / "none")
    assert (reader.first_sequence, reader.last_sequence, reader.read(0)) == (1, 0, [])


# Speed, with room for a busy machine


@pytest.fixture
def without_garbage_collection():
    """What other tests of this process have left would be looked through at our cost."""
    gc.disable()
    yield
    gc.enable()


def test_appending_and_reading_are_fast(log, without_garbage_collection):
    drafts = some(50, raw=True)
    started = time.process_time()
    for _ in range(40):
        log.append(drafts, turn_id="trn_1")
    assert time.process_time() - started < 0.1, "2,000 events in batches of 50 take 7 ms of CPU"
    for _ in range(960):
        log.append(drafts, turn_id="trn_1")
    started = time.process_time()
    assert len(numbers(log)) == 50_000
    assert time.process_time() - started < 0.5, "50,000 events take 65 ms of CPU"


def test_the_machine_has_not_run_out_of_descriptors(log):
    """Reading opens files: each page closes its own."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    log.append(some(1), turn_id=None)
    for _ in range(min(soft, 3000) + 10):
        log.read(0)
