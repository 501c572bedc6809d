"""One log, one writer: whoever lost the lease writes no more, however long it slept."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest

from agentctl import errors
from agentctl.events import Draft
from agentctl.supervisor.log.session_log import LogReader, SessionLog

NOTE = [Draft("item.delta", {"item_id": "itm_1", "delta": "x"})]
OLD_WRITER = """
import sys
from pathlib import Path
from agentctl import errors
from agentctl.events import Draft
from agentctl.supervisor.log.session_log import SessionLog

log = SessionLog(Path(sys.argv[1]), "ses_1", fencing=1)
for line in sys.stdin:
    try:
        print(log.append([Draft("item.delta", {"item_id": "old", "delta": line})], turn_id=None), flush=True)
    except errors.LeaseLost:
        print("lost", flush=True)
"""


def kinds(log):
    """The types of all events, page by page."""
    found, after = [], 0
    while page := log.read(after):
        found += [json.loads(record.line)["type"] for record in page]
        after = page[-1].sequence
    return found


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def old(directory):
    """A writer in another process; ``ask`` has it append and returns what it says."""
    process = subprocess.Popen(
        [sys.executable, "-c", OLD_WRITER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def ask():
        process.stdin.write("x\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    process.ask = ask
    yield process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.communicate()


def test_a_stopped_writer_that_lost_the_log_wakes_up_and_writes_nothing(directory, old):
    assert old.ask() == "1"
    old.send_signal(signal.SIGSTOP)
    with SessionLog(directory, "ses_1", fencing=2) as new:
        assert new.append(NOTE, turn_id=None) == 3
        old.send_signal(signal.SIGCONT)
        assert (old.ask(), old.ask()) == ("lost", "lost")
        assert new.append(NOTE, turn_id=None) == 4
    assert kinds(LogReader(directory)) == ["item.delta", "log.taken_over", "item.delta", "item.delta"]


def test_a_taken_over_log_says_from_whom(directory):
    with SessionLog(directory, "ses_1", fencing=3), SessionLog(directory, "ses_1", fencing=7) as new:
        (said,) = new.read(0)
    assert json.loads(said.line)["data"] == {"from": 3, "to": 7}


def test_a_writer_of_the_same_lease_is_refused_while_the_first_lives(directory):
    with SessionLog(directory, "ses_1", fencing=2), pytest.raises(errors.Conflict):
        SessionLog(directory, "ses_1", fencing=2)
    SessionLog(directory, "ses_1", fencing=2).close()


@pytest.mark.parametrize("alive", [True, False])
def test_a_lower_number_never_opens_the_log_again(directory, alive):
    new = SessionLog(directory, "ses_1", fencing=5)
    if not alive:
        new.close()
    with pytest.raises(errors.LeaseLost):
        SessionLog(directory, "ses_1", fencing=4)
    new.close()


def test_after_a_take_over_the_next_in_turn_needs_none(directory):
    old = SessionLog(directory, "ses_1", fencing=1)
    SessionLog(directory, "ses_1", fencing=2).close()
    old.close()
    with SessionLog(directory, "ses_1", fencing=3) as third:
        assert third.append(NOTE, turn_id=None) == 2


def test_what_the_old_writer_was_about_to_write_is_read_by_nobody(directory, monkeypatch):
    """It was stopped between its look at the lock and its write: the kernel takes the write all the same."""
    old = SessionLog(directory, "ses_1", fencing=1)
    old.append(NOTE, turn_id=None)
    new = SessionLog(directory, "ses_1", fencing=2)
    monkeypatch.setattr(old._lock, "check", lambda: None)
    old.append([Draft("turn.ended", {"turn_id": "stray"})], turn_id=None)
    new.append(NOTE, turn_id=None)
    wanted = ["item.delta", "log.taken_over", "item.delta"]
    assert (kinds(LogReader(directory)), kinds(new)) == (wanted, wanted)
    old.close()
    new.close()
    with SessionLog(directory, "ses_1", fencing=3) as third:
        assert third.last_sequence == 3


def test_a_durable_append_is_looked_at_again_after_its_write(directory, monkeypatch):
    old = SessionLog(directory, "ses_1", fencing=1)
    write = old._writer.write

    def taken_over_meanwhile(data, first, *, durable):
        write(data, first, durable=durable)
        SessionLog(directory, "ses_1", fencing=2).close()

    monkeypatch.setattr(old._writer, "write", taken_over_meanwhile)
    with pytest.raises(errors.LeaseLost):
        old.append([Draft("turn.ended", {})], turn_id=None, durable=True)
    assert old.last_sequence == 0
    old.close()


def test_a_deleted_log_is_no_lost_lease(directory):
    log = SessionLog(directory, "ses_1", fencing=1)
    log.append(NOTE, turn_id=None)
    shutil.rmtree(directory)
    with pytest.raises(errors.StateError, match="deleted"):
        log.append(NOTE, turn_id=None)
    with pytest.raises(errors.StateError):
        log.close()


def test_a_lock_file_with_nonsense_in_it_counts_as_no_number(directory):
    directory.mkdir()
    (directory / "lock").write_bytes(b"nonsense")
    SessionLog(directory, "ses_1", fencing=0).close()
