"""The log under every kind of damage and company: cut at any byte, overwritten anywhere, read while it is written."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentctl.events import Draft
from agentctl.supervisor.log.session_log import LogReader, SessionLog

TEXTS = ["one", "zwei ä 🙂", "three\nlines\n"]
RAW = b'{"jsonrpc":"2.0","method":"session/update"}'


def drafts(texts, *, raw=True):
    return [Draft("item.delta", {"delta": text}, raw=RAW if raw else None) for text in texts]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A log of one segment, closed in good order: its bytes, and where each record ends in them."""
    directory = tmp_path_factory.mktemp("whole")
    with SessionLog(directory, "ses_1") as log:
        log.append(drafts(TEXTS), turn_id="trn_1")
    [path] = directory.glob("*.jsonl")
    data = path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(data) if byte == ord("\n")]
    assert len(ends) == len(TEXTS)
    return path.name, data, ends


def read_all(log, after=0, **options):
    """Every record after a number, however small the pages are."""
    found = []
    while page := log.read(found[-1].sequence if found else after, **options):
        found += page
    return found


def said(log):
    return [json.loads(record.line) for record in read_all(log, log.first_sequence - 1)]


def deltas(log):
    return [event["data"]["delta"] for event in said(log) if event["type"] == "item.delta"]


def has_no_gap_but_those_that_are_said(events):
    expected = events[0]["sequence"] if events else 1
    for event in events:
        if event["sequence"] != expected:
            assert event["type"] == "log.gap"
            assert event["data"] == {"from": expected, "to": event["sequence"] - 1}
        expected = event["sequence"] + 1


# Cut and overwritten


@pytest.mark.slow
def test_a_log_that_is_cut_at_any_byte_keeps_every_record_before_the_cut(whole, tmp_path):
    name, data, ends = whole
    for cut in range(len(data) + 1):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / name).write_bytes(data[:cut])
        kept = sum(end <= cut for end in ends)
        assert [json.loads(r.line)["data"]["delta"] for r in read_all(LogReader(directory))] == TEXTS[:kept]
        with SessionLog(directory, "ses_1") as log:
            assert deltas(log) == TEXTS[:kept]
            torn = cut - (ends[kept - 1] if kept else 0)
            assert [event["data"]["bytes"] for event in said(log) if event["type"] == "log.torn"] == [torn] * bool(torn)
            assert log.append(drafts(["after"]), turn_id=None) == kept + bool(torn) + 1
        assert sum(path.stat().st_size for path in directory.glob("*.torn")) == torn
        shutil.rmtree(directory)


def test_a_log_that_is_cut_at_any_byte_never_gives_out_again_what_the_store_has_seen(whole, tmp_path):
    name, data, _ = whole
    for cut in range(0, len(data) + 1, 11):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / name).write_bytes(data[:cut])
        with SessionLog(directory, "ses_1", min_sequence=len(TEXTS)) as log:
            assert log.append(drafts(["after"]), turn_id=None) > len(TEXTS)
            events = said(log)
        has_no_gap_but_those_that_are_said(events)
        assert all(e["data"].get("delta") in (*TEXTS, "after") for e in events if e["type"] == "item.delta")
        shutil.rmtree(directory)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 800), garbage=st.binary(min_size=1, max_size=200))
@example(at=0, garbage=b"\n")
@example(at=300, garbage=b'\n{"sequence":9,"x":1}\n')
def test_garbage_anywhere_leaves_what_was_before_it_and_gives_no_number_twice(whole, at, garbage):
    """A disk that lies. Bytes inside a record may be others and nobody can know, but every record is where it was."""
    name, data, ends = whole
    at = min(at, len(data) - 1)
    sound = sum(end <= at for end in ends)
    with overwritten(name, data, at, garbage[: len(data) - at]) as directory:
        with SessionLog(directory, "ses_1", min_sequence=len(TEXTS)) as log:
            assert log.append(drafts(["after"]), turn_id=None) > len(TEXTS)
            records = read_all(log, log.first_sequence - 1)
        assert [json.loads(r.line)["data"]["delta"] for r in records[:sound]] == TEXTS[:sound]
        numbers = [record.sequence for record in records]
        assert numbers == sorted(set(numbers))
        assert json.loads(records[-1].line)["data"] == {"delta": "after"}
        assert [r.sequence for r in read_all(LogReader(directory), records[0].sequence - 1)] == numbers


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 800), size=st.integers(1, 600))
@example(at=400, size=64)
def test_a_hole_of_nuls_that_a_power_cut_left_is_never_told_as_a_record(whole, at, size):
    name, data, ends = whole
    at = min(at, len(data) - 1)
    hole = b"\0" * min(size, len(data) - at)
    begins_in_a_raw_frame = b"\t" in data[:at].rpartition(b"\n")[2]  # which may hold any bytes
    with overwritten(name, data, at, hole) as directory, SessionLog(directory, "ses_1") as log:
        found = deltas(log)
        assert found == TEXTS[: len(found)]
        assert len(found) >= sum(end <= at for end in ends)
        assert begins_in_a_raw_frame or [event["type"] for event in said(log)][-1] == "log.torn"


@contextmanager
def overwritten(name, data, at, garbage):
    directory = Path(tempfile.mkdtemp())
    try:
        (directory / name).write_bytes(data[:at] + garbage + data[at + len(garbage) :])
        yield directory
    finally:
        shutil.rmtree(directory)


# In company


READER = """
import json, sys, time
from pathlib import Path
from agentctl.supervisor.log.session_log import LogReader
reader, after, page = LogReader(Path(sys.argv[1])), 0, int(sys.argv[2])
print("ready", flush=True)
while True:
    records = reader.read(after, max_bytes=page, raw=True)
    if not records:
        time.sleep(0.001)
    for record in records:
        event = json.loads(record.line)
        if record.sequence != after + 1:
            assert event["type"] == "log.gap" and event["data"] == {"from": after + 1, "to": record.sequence - 1}, event
        assert event["sequence"] == record.sequence, event
        assert record.raw is None or json.loads(record.raw)
        after = record.sequence
        if event["data"].get("delta") == "the end":
            print(after)
            sys.exit()
"""

WRITER = """
import itertools, sys
from pathlib import Path
from agentctl.events import Draft
from agentctl.supervisor.log.session_log import SessionLog
log = SessionLog(Path(sys.argv[1]), "ses_1", segment_bytes=3000)
for number in itertools.count():
    batch = [Draft("item.delta", {"delta": "x" * (number * 37 % 900)}, raw=b'{"n":%d}' % number)] * (number % 9 + 1)
    print(log.append(batch, turn_id=None, durable=number % 50 == 0), flush=True)
"""


@pytest.mark.slow
def test_readers_of_any_page_size_see_every_number_once_while_writers_rotate_and_die(tmp_path):
    def start(program, *args):
        return subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), *args], stdout=subprocess.PIPE, text=True
        )

    readers = [start(READER, str(size)) for size in (1, 700, 5000, 1 << 20)]
    try:
        for reader in readers:
            assert reader.stdout.readline() == "ready\n"
        shown = 0
        for life in range(4):
            with start(WRITER) as writer:
                for _ in range(60 + 30 * life):
                    number = int(writer.stdout.readline())
                    assert number > shown, "a number was given twice"
                    shown = number
                writer.send_signal(signal.SIGKILL)
                shown = max([shown, *map(int, writer.stdout.read().split())])
        with SessionLog(tmp_path, "ses_1", segment_bytes=3000) as log:
            assert log.last_sequence >= shown, "what was shown is kept"
            last = log.append(drafts(["the end"]), turn_id=None)
            assert len(list(tmp_path.glob("*.jsonl"))) > 20
        assert [int(reader.communicate(timeout=60)[0]) for reader in readers] == [last] * len(readers)
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
            reader.stdout.close()


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(st.lists(st.text(max_size=60), min_size=1, max_size=6), min_size=1, max_size=12),
    segment_bytes=st.sampled_from([1, 500, 1 << 20]),
    pages=st.lists(st.integers(1, 3000), min_size=1, max_size=4),
)
def test_a_reader_who_looks_after_every_append_is_never_behind_nor_ahead(batches, segment_bytes, pages):
    directory = Path(tempfile.mkdtemp())
    try:
        found = {size: [] for size in pages}
        with SessionLog(directory, "ses_1", segment_bytes=segment_bytes) as log:
            reader = LogReader(directory)
            for batch in batches:
                last = log.append(drafts(batch), turn_id=None)
                for size, records in found.items():
                    records += read_all(reader, records[-1].sequence if records else 0, max_bytes=size)
                    assert records[-1].sequence == last == reader.last_sequence
        wanted = [text for batch in batches for text in batch]
        for records in found.values():
            assert [record.sequence for record in records] == list(range(1, len(wanted) + 1))
            assert [json.loads(record.line)["data"]["delta"] for record in records] == wanted
    finally:
        shutil.rmtree(directory)


def test_a_log_that_lost_its_newest_segment_goes_on_above_what_the_store_has(tmp_path):
    with SessionLog(tmp_path, "ses_1", segment_bytes=1) as log:
        for text in TEXTS:
            log.append(drafts([text]), turn_id=None)
    os.unlink(sorted(tmp_path.glob("*.jsonl"))[-1])
    with SessionLog(tmp_path, "ses_1", min_sequence=len(TEXTS)) as log:
        assert log.append(drafts(["after"]), turn_id=None) == len(TEXTS) + 2
        has_no_gap_but_those_that_are_said(said(log))
