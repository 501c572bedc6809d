"""No secret gets into the log, and the log stays a log."""

from __future__ import annotations

import json

import pytest

from agentctl.events import Draft
from agentctl.supervisor.log.session_log import SessionLog, make_redactor

SECRET = 'sk-"top\\secret/ü'


def test_a_secret_is_replaced_in_every_way_it_may_be_written():
    redact = make_redactor([SECRET])
    for written in (SECRET, json.dumps(SECRET), json.dumps(SECRET, ensure_ascii=False), r"sk-\"top\\secret\/\u00fc"):
        assert b"secret" not in redact(f"before {written} after".encode())
    assert redact(b"nothing here") == b"nothing here"


def test_short_values_are_no_secrets():
    assert make_redactor(["", "1234567", "true"]) is None
    assert make_redactor([]) is None


def test_a_secret_that_begins_with_another_one_leaves_no_end():
    redact = make_redactor(["abcdefgh", "abcdefgh-and-more"])
    assert redact(b"x abcdefgh-and-more y abcdefgh z") == b"x [redacted] y [redacted] z"


@pytest.fixture
def log(tmp_path):
    with SessionLog(tmp_path, "ses_1", redact=make_redactor([SECRET, "12345678", "item.delta", "sequence"])) as opened:
        yield opened


def written(tmp_path):
    return b"".join(path.read_bytes() for path in tmp_path.glob("*.jsonl"))


def test_neither_event_nor_raw_frame_holds_it(log, tmp_path):
    raw = json.dumps({"params": {"text": SECRET}}).encode()
    log.append([Draft("turn.started", {"text": f"my key is {SECRET}."}, raw=raw)], turn_id=None)
    (record,) = log.read(0, raw=True)
    assert json.loads(record.line)["data"] == {"text": "my key is [redacted]."}
    assert json.loads(record.raw) == {"params": {"text": "[redacted]"}}
    assert b"secret" not in written(tmp_path)


def test_among_many_events_only_the_one_with_the_secret_is_changed(log):
    texts = ["before", f"it is {SECRET}.", "after"]
    drafts = [Draft("item.delta", {"item_id": "itm_1", "delta": text}, raw=json.dumps(text).encode()) for text in texts]
    log.append(drafts, turn_id=None)
    records = log.read(0, raw=True)
    said = ["before", "it is [redacted].", "after"]
    assert [json.loads(record.line)["data"]["delta"] for record in records] == said
    assert [json.loads(record.raw) for record in records] == said


def test_a_secret_of_digits_in_a_number_leaves_valid_json(log, tmp_path):
    log.append([Draft("x", {"used": 12345678, "list": [91234567890]}, raw=b'{"used":12345678}')], turn_id=None)
    (record,) = log.read(0, raw=True)
    assert json.loads(record.line)["data"]["used"] == "[redacted]"
    assert json.loads(record.raw) == {"used": "[redacted]"}
    assert b"12345678" not in written(tmp_path)


def test_a_secret_that_is_a_word_of_the_schema_leaves_the_number_readable(log):
    log.append([Draft("item.delta", {"sequence": 1})], turn_id=None)
    log.append([Draft("x", {})], turn_id=None)
    assert [record.sequence for record in log.read(0)] == [1, 2]
    assert all(json.loads(record.line)["sequence"] == record.sequence for record in log.read(0))


def test_garbage_with_a_secret_is_cleaned_too(log, tmp_path):
    log.append([Draft("agent.unparsed", {"error": "no JSON"}, raw=b"{ 12345678 }")], turn_id=None)
    assert log.read(0, raw=True)[0].raw == b"{ [redacted] }"


def test_a_redactor_that_makes_new_lines_breaks_no_record(tmp_path):
    with SessionLog(tmp_path / "log", "ses_1", redact=lambda data: data.replace(b"hello", b"a\n\tb")) as log:
        log.append([Draft("x", {"text": "hello"}, raw=b"hello")], turn_id=None)
        log.append([Draft("x", {"text": "bye"})], turn_id=None)
        assert [record.sequence for record in log.read(0)] == [1, 2]


def test_a_key_of_several_lines_is_found_by_its_lines_and_however_it_is_written():
    key = "-----BEGIN KEY-----\n0123456789abcdef0\nfedcba9876543210f\n-----END KEY-----\n"
    redact = make_redactor([key])
    texts = [key, key.strip(), json.dumps(key), json.dumps(json.dumps({"key": key})), "0123456789abcdef0", key[20:40]]
    for text in texts:
        assert b"0123456789abcdef" not in redact(text.encode()), text


def test_a_stream_is_redacted_across_its_pieces():
    key = "0123456789abcdef0\nfedcba9876543210f"
    stream = make_redactor([key]).stream()
    out = b"".join([*(stream.feed(key[at : at + 4].encode()) for at in range(0, len(key), 4)), stream.flush()])
    assert out in (b"[redacted]", b"[redacted]\n[redacted]")
