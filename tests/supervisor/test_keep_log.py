"""A log kept on a volume as whole files: what a reader gets of it, whatever the writer died at, and at what cost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentctl import errors
from agentctl.events import Draft
from agentctl.supervisor.keep.log import KeptLog
from agentctl.supervisor.keep.pieces import Chain
from agentctl.supervisor.keep.read import assemble
from agentctl.supervisor.keep.volume_files import fencing_in
from agentctl.supervisor.log.session_log import LogReader, SessionLog
from tests.supervisor.dying import killed_at_every_step
from tests.supervisor.s3_files import mounted


@pytest.fixture(params=["directory", "s3"])
def volume(request, tmp_path):
    """A directory on a volume, and on one with S3's rules."""
    place = tmp_path / "volume"
    if request.param == "directory":
        place.mkdir()
        yield place
        return
    with mounted(place, tmp_path / "bucket"):
        yield place


class Writer:
    """A supervisor as far as its log goes. ``say`` appends an event for each text and returns the last number."""

    def __init__(self, local, kept, fencing=1, min_sequence=0):
        self.local = local
        self.kept = KeptLog(local, kept, "sbx_1", fencing)
        self.restored = self.kept.restore()
        self.log = SessionLog(local, "ses_x", fencing=fencing, min_sequence=min_sequence)

    def say(self, *texts):
        drafts = [Draft("item.delta", {"delta": text}, raw=b'{"raw":"%b"}' % text.encode()) for text in texts]
        return self.log.append(drafts, turn_id=None)

    def copy(self):
        self.kept.copy(self.log.last_sequence, self.log.held)

    def end(self):
        self.log.close()
        self.kept.close()

    def lost_with_its_disk(self):
        self.end()
        subprocess.run(["rm", "-r", str(self.local)], check=True)


@contextmanager
def writer(local, kept, fencing=1, min_sequence=0):
    written = Writer(local, kept, fencing, min_sequence)
    try:
        yield written
    finally:
        written.end()


def whole(directory):
    """Every record, with its raw frame, as bytes."""
    reader, after, found = LogReader(directory), 0, []
    after = reader.first_sequence - 1
    while page := reader.read(after, raw=True):
        found += [(r.sequence, r.line, r.raw) for r in page]
        after = page[-1].sequence
    return found


def texts(directory):
    import json

    events = [json.loads(line) for _, line, _ in whole(directory)]
    return [e["data"]["delta"] if e["type"] == "item.delta" else e["type"] for e in events]


def read_back(kept, target):
    told = assemble(kept, target)
    return told, texts(target)


def pieces(kept):
    return sorted(name for name in os.listdir(kept) if name.endswith(".kept"))


def test_what_was_copied_is_read_back_byte_for_byte_and_goes_on_elsewhere(tmp_path, volume):
    kept = volume / "log"
    with writer(tmp_path / "a", kept) as first:
        for n in range(40):
            first.say(f"a{n}", "é\t\n")
            first.copy()
        assert len(pieces(kept)) < 10
        before = whole(tmp_path / "a")
        first.say("never copied")
    with writer(tmp_path / "b", kept, fencing=2, min_sequence=90) as second:
        assert second.restored == (80, True, None)
        second.say("b")
        second.copy()
        assert whole(tmp_path / "b")[:80] == before
        assert texts(tmp_path / "b")[80:] == ["log.gap", "b"]
        told, said = read_back(kept, tmp_path / "read")
        assert (told, said) == ((92, None), texts(tmp_path / "b"))
    with writer(tmp_path / "b", kept, fencing=3) as third:
        assert third.restored == (92, False, None)
        assert third.say("c") == 93
        third.copy()
    assert read_back(kept, tmp_path / "again")[1][-3:] == ["log.gap", "b", "c"]


def test_nothing_is_made_of_a_volume_that_has_nothing(tmp_path):
    assert assemble(tmp_path / "missing", tmp_path / "target") == (0, None)
    assert not (tmp_path / "target").exists()


def test_logs_of_sessions_that_share_a_sandbox_come_back_as_well(tmp_path, volume):
    with writer(tmp_path / "a", volume / "log/sessions/ses_x") as one:
        one.say("shared")
        one.copy()
    assemble(volume / "log", tmp_path / "read")
    assert texts(tmp_path / "read/sessions/ses_x") == ["shared"]


@pytest.mark.parametrize("damage", ["torn", "changed", "missing"])
def test_a_damaged_piece_ends_the_log_before_it_and_is_told(tmp_path, damage):
    kept = tmp_path / "log"
    with writer(tmp_path / "a", kept) as first:
        for n in range(5):
            first.say(f"{n}")
            first.copy()
    middle = kept / pieces(kept)[2]
    data = middle.read_bytes()
    if damage == "missing":
        middle.unlink()
    else:
        middle.write_bytes(data[:-7] if damage == "torn" else data.replace(b'"2"', b'"X"'))
    told, said = read_back(kept, tmp_path / "read")
    assert said == ["0", "1"]
    assert told == (2, "missing" if damage == "missing" else "torn")
    with writer(tmp_path / "b", kept, fencing=2, min_sequence=5) as second:
        second.say("next")
        second.copy()
        assert texts(tmp_path / "b") == ["0", "1", "log.gap", "next"]
    assert read_back(kept, tmp_path / "again") == ((7, None), ["0", "1", "log.gap", "next"])


def test_a_torn_bigger_piece_costs_nothing_while_its_parts_are_there(tmp_path):
    kept = tmp_path / "log"
    with writer(tmp_path / "a", kept) as first:
        for n in range(7):
            first.say(f"{n}")
            first.copy()
        parts = {name: (kept / name).read_bytes() for name in pieces(kept)}
        first.say("7")
        first.copy()
        (bigger,) = pieces(kept)
    for name, data in parts.items():
        (kept / name).write_bytes(data)
    data = (kept / bigger).read_bytes()
    (kept / bigger).write_bytes(data[: len(data) // 2])
    told, said = read_back(kept, tmp_path / "read")
    assert said == [str(n) for n in range(7)]
    assert told.problem == "torn"  # the eighth was nowhere else


def test_what_a_supervisor_writes_after_it_was_replaced_is_not_in_the_log(tmp_path):
    kept = tmp_path / "log"
    with writer(tmp_path / "a", kept) as old:
        old.say("1")
        old.copy()
        old.say("old 2", "old 3", "old 4")
        with writer(tmp_path / "b", kept, fencing=2) as new:
            with pytest.raises(errors.LeaseLost):
                old.copy()
            new.say("new 2")
            new.copy()
            late = tmp_path / "late"  # a volume that shows late what others wrote: the old one cannot see that it lost
            late.mkdir()
            new_ones = [name for name in os.listdir(kept) if fencing_in(name) == 2]
            for name in new_ones:
                (kept / name).rename(late / name)
            old.copy()
            for name in new_ones:
                (late / name).rename(kept / name)
            assert read_back(kept, tmp_path / "read") == ((2, None), ["1", "new 2"])
            new.say("new 3")
            new.copy()
            assert read_back(kept, tmp_path / "read")[1] == ["1", "new 2", "new 3"]
    with pytest.raises(errors.LeaseLost):
        Writer(tmp_path / "c", kept, fencing=1)


def test_a_disk_that_comes_back_after_another_went_on_takes_over_what_that_one_wrote(tmp_path):
    kept = tmp_path / "log"
    with writer(tmp_path / "a", kept) as one:
        one.say("1")
        one.copy()
        one.say("lost")
    with writer(tmp_path / "b", kept, fencing=2) as two:
        two.say("2")
        two.copy()
    with writer(tmp_path / "a", kept, fencing=3) as three:
        assert three.restored == (2, True, None)
        assert texts(tmp_path / "a") == ["1", "2"]


def test_two_supervisors_at_once_leave_one_log_without_a_mixture(tmp_path, volume):
    kept = volume / "log"
    lost = []

    def run(fencing):
        try:
            with writer(tmp_path / f"w{fencing}", kept, fencing) as one:
                for n in range(30):
                    one.say(f"{fencing}-{n}")
                    one.copy()
        except errors.LeaseLost:
            lost.append(fencing)

    threads = [threading.Thread(target=run, args=(fencing,)) for fencing in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 3 not in lost
    told, said = read_back(kept, tmp_path / "read")
    assert told.problem is None
    assert said[-30:] == [f"3-{n}" for n in range(30)]
    by_writer = [int(text.split("-")[0]) for text in said]
    assert by_writer == sorted(by_writer)


def test_a_full_volume_is_said_and_what_follows_brings_everything(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root of a Linux may mount a small disk")
    try:
        with writer(tmp_path / "a", small / "log") as one:
            one.say("1")
            one.copy()
            (small / "ballast").write_bytes(b"x" * 200_000)
            one.say("y" * 100_000)
            with pytest.raises(errors.DiskFull):
                one.copy()
            assert read_back(small / "log", tmp_path / "read") == ((1, None), ["1"])
            (small / "ballast").unlink()
            one.say("3")
            one.copy()
            assert read_back(small / "log", tmp_path / "read")[1] == ["1", "y" * 100_000, "3"]
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


CRASHING = """
import os, sys
sys.path.insert(0, {repository!r})
from pathlib import Path
from tests.supervisor.dying import dying_at_every_step
from tests.supervisor.test_keep_log import Writer

def play(place):
    one = Writer(place / "new", place / "kept", 2)
    for n in range(6):
        number = one.say(f"2-{{n}}")
        one.copy()
        with open(place / "said", "w") as said:
            said.write(str(number))

dying_at_every_step(Path(sys.argv[1]), play)
"""


@pytest.fixture
def memory():
    """A place without a disk below it: syncing hundreds of small logs costs nothing there."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as place:
        yield Path(place)


@pytest.mark.slow
def test_whatever_step_a_writer_is_killed_at_all_that_it_had_copied_is_there(memory):
    """The second of two supervisors dies while it takes over, copies, and puts pieces together."""
    with writer(memory / "old", memory / "kept") as first:
        for n in range(10):
            first.say(f"1-{n}")
            first.copy()
    for at, place in enumerate(killed_at_every_step(CRASHING, memory)):
        noted = place / "said"
        copied = int((noted.read_text() if noted.exists() else "") or 10)
        said = read_back(place / "kept", place / "read")[1]
        assert len(said) >= copied, at
        assert said == [*(f"1-{n}" for n in range(10)), *(f"2-{n}" for n in range(6))][: len(said)], at
        if at % 3 == 0:
            with writer(place / "next", place / "kept", fencing=3) as following:
                following.say("next")
                following.copy()
            assert read_back(place / "kept", place / "again")[1] == [*said, "next"], at


@pytest.mark.slow
def test_copying_a_long_log_costs_as_much_as_what_is_new(tmp_path, monkeypatch):
    kept = tmp_path / "log"
    written = [0]
    real = os.write

    def counting(fd, data):
        if str(kept) in os.readlink(f"/proc/self/fd/{fd}"):
            written[0] += len(data)
        return real(fd, data)

    with writer(tmp_path / "a", kept) as one:
        begun, spent = time.process_time(), []
        monkeypatch.setattr(os, "write", counting)
        for _ in range(40):
            one.say(*("x" * 100 for _ in range(1000)))
            before = time.process_time()
            one.copy()
            spent.append(time.process_time() - before)
        monkeypatch.undo()
        size = sum(path.stat().st_size for path in (tmp_path / "a").glob("*.jsonl"))
        assert size > 10_000_000
        assert written[0] < 3 * size
        assert len(pieces(kept)) < 20
        appended = time.process_time() - begun - sum(spent)
        assert sum(spent) < 1.5 * appended
        chain = Chain(kept)
        assert sum(map(len, chain.read())) == size


def test_no_step_needs_more_of_a_volume_than_s3_can_do(tmp_path):
    """The same without a kernel that refuses: every call is looked at."""
    seen = []

    def look(event, args):
        if watching and args and str(args[0]).startswith(str(tmp_path / "log")):
            if event in ("os.rename", "os.chmod", "os.utime", "os.link", "os.symlink", "os.truncate"):
                seen.append((event, args))
            elif event == "open" and isinstance(args[2], int):
                flags = args[2]
                writes = flags & os.O_ACCMODE != os.O_RDONLY
                if writes and (flags & os.O_APPEND or flags & os.O_RDWR or not flags & os.O_TRUNC):
                    seen.append((event, args))

    watching = True
    sys.addaudithook(look)
    try:
        for fencing in (1, 2):
            with writer(tmp_path / f"w{fencing}", tmp_path / "log", fencing) as one:
                for n in range(20):
                    one.say(str(n))
                    one.copy()
    finally:
        watching = False
    assert seen == []


def test_a_killed_process_leaves_no_half_file_behind_the_back_of_s3(tmp_path):
    """The volume ends before the file does: it is not there at all, and the log is what it was."""
    with (
        mounted(tmp_path / "volume", tmp_path / "bucket") as server,
        writer(tmp_path / "a", tmp_path / "volume/log") as one,
    ):
        one.say("1")
        one.copy()
        one.say("2")
        server.send_signal(signal.SIGKILL)
        server.wait()
        with pytest.raises(errors.StateError):
            one.copy()
    with mounted(tmp_path / "volume", tmp_path / "bucket"):
        assert read_back(tmp_path / "volume/log", tmp_path / "read") == ((1, None), ["1"])
