"""Whatever a crash does to the end of a log, its beginning stays and its numbers go on."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentctl.events import Draft
from agentctl.supervisor.log.session_log import LogReader, SessionLog

SEGMENT = "00000000000000000001.jsonl"


def drafts(*texts):
    return [Draft("item.delta", {"delta": text}, raw=b'{"raw":1}') for text in texts]


def events(log):
    found = []
    while page := log.read(found[-1]["sequence"] if found else 0):
        found += [json.loads(record.line) for record in page]
    return found


def deltas(log):
    return [event["data"]["delta"] for event in events(log) if event["type"] == "item.delta"]


@pytest.fixture
def directory(tmp_path):
    with SessionLog(tmp_path / "log", "ses_1") as log:
        log.append(drafts("one", "two", "three"), turn_id=None)
    return tmp_path / "log"


def test_a_torn_record_is_cut_off_kept_aside_and_said(directory):
    path = directory / SEGMENT
    whole = path.read_bytes()
    os.truncate(path, len(whole) - 5)
    assert LogReader(directory).last_sequence == 2
    assert [record.sequence for record in LogReader(directory).read(0)] == [1, 2]
    with SessionLog(directory, "ses_1") as log:
        said = json.loads(log.read(2)[0].line)
        assert (said["sequence"], said["type"], said["source"]) == (3, "log.torn", "daemon")
        side = directory / said["data"]["file"]
        assert side.suffix == ".torn"
        assert side.stat().st_mode & 0o777 == 0o600
        third = whole.split(b"\n")[2]
        assert side.read_bytes() == third[:-4]
        assert said["data"]["bytes"] == len(third) - 4
        assert deltas(log) == ["one", "two"]


@pytest.mark.parametrize("end", [b"\n", b"not json\n", b"\0\0\0\n", b'{"sequence":4,"data"\n', b'{"sequence":9}\n'])
def test_a_last_line_that_is_no_record_is_torn_too(directory, end):
    with open(directory / SEGMENT, "ab") as file:
        file.write(end)
    assert LogReader(directory).last_sequence == 3
    with SessionLog(directory, "ses_1") as log:
        assert deltas(log) == ["one", "two", "three"]
        assert [event["type"] for event in events(log)][3:] == ["log.torn"]
        assert log.append(drafts("four"), turn_id=None) == 5


def test_a_hole_that_a_power_cut_left_in_the_middle_ends_the_log_there(directory):
    path = directory / SEGMENT
    first, second, third, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, b"\0" * len(second) + b"\0" + third, b""]))
    with SessionLog(directory, "ses_1") as log:
        assert deltas(log) == ["one"]
        assert [event["sequence"] for event in events(log)] == [1, 2]


def test_a_torn_first_record_of_a_segment_leaves_the_earlier_ones(tmp_path):
    with SessionLog(tmp_path, "ses_1", segment_bytes=1) as log:
        for text in ("one", "two", "three"):
            log.append(drafts(text), turn_id=None)
    os.truncate(sorted(tmp_path.glob("*.jsonl"))[-1], 10)
    assert LogReader(tmp_path).last_sequence == 2
    with SessionLog(tmp_path, "ses_1") as log:
        assert deltas(log) == ["one", "two"]
        assert [event["sequence"] for event in events(log)] == [1, 2, 3]


def test_torn_and_gap_are_both_said_the_gap_first(directory):
    os.truncate(directory / SEGMENT, 3)
    with SessionLog(directory, "ses_1", min_sequence=7) as log:
        assert log.first_sequence == 8
        said = [json.loads(record.line) for record in log.read(7)]
        assert [(event["sequence"], event["type"]) for event in said] == [(8, "log.gap"), (9, "log.torn")]
        assert said[0]["data"] == {"from": 1, "to": 7}
    with SessionLog(directory, "ses_1") as log:
        assert log.append(drafts("on"), turn_id=None) == 10


def test_opening_twice_repairs_once(directory):
    os.truncate(directory / SEGMENT, (directory / SEGMENT).stat().st_size - 1)
    for _ in range(2):
        with SessionLog(directory, "ses_1") as log:
            assert [event["type"] for event in events(log)] == ["item.delta", "item.delta", "log.torn"]


texts = st.text(max_size=40)
batches = st.lists(st.lists(texts, min_size=1, max_size=5), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lives=st.lists(st.tuples(batches, st.integers(0, 400), st.integers(0, 3)), min_size=1, max_size=4),
    segment_bytes=st.sampled_from([1, 700, 1 << 20]),
)
def test_whatever_is_torn_the_prefix_stays_and_numbers_never_repeat_or_skip(lives, segment_bytes):
    """Each life appends, then loses some bytes of its last segment; the store may know more than is left."""
    directory = Path(tempfile.mkdtemp())
    try:
        written: dict[int, str] = {}
        seen = 0
        for appended, lost, store_is_ahead in lives:
            with SessionLog(directory, "ses_1", min_sequence=seen, segment_bytes=segment_bytes) as log:
                for batch in appended:
                    last = log.append(drafts(*batch), turn_id=None)
                    written |= dict(zip(range(last - len(batch) + 1, last + 1), batch, strict=True))
                seen = log.last_sequence if store_is_ahead else 0
            before = check(LogReader(directory), written)
            path = sorted(directory.glob("*.jsonl"))[-1]
            os.truncate(path, max(path.stat().st_size - lost, 0))
            after = check(LogReader(directory), written)
            assert after == before[: len(after)]
            with SessionLog(directory, "ses_1") as log:
                assert check(log, written)[: len(after)] == after
            written = {number: text for number, text in written.items() if number in dict(after)}
    finally:
        shutil.rmtree(directory)


def check(log, written):
    """Read all from the first that is kept; every number once, in order, gaps said; every delta as it was written."""
    after = log.first_sequence - 1
    found = []
    while page := log.read(after, max_bytes=500):
        for record in page:
            event = json.loads(record.line)
            if record.sequence != after + 1:
                assert event["type"] == "log.gap"
                assert event["data"] == {"from": after + 1, "to": record.sequence - 1}
            if event["type"] == "item.delta":
                assert event["data"]["delta"] == written[record.sequence]
            after = record.sequence
            found.append((record.sequence, record.line))
    assert log.last_sequence == after
    return found
