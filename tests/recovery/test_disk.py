"""A state directory on a full disk, and on a read-only one: said plainly, nothing half done, all there afterwards."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentctl.paths import StatePaths
from tests.cli.running import Done, agentctl
from tests.recovery.leftovers import leftovers

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="only root of a Linux may mount a small disk"
)

DISK = "4m"


class Disk:
    """A small file system of its own, with the state directory on it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ballast = place / "ballast"

    def mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, "tmpfs", str(self.place)], check=True)

    def fill(self) -> None:
        """To the last byte."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while file.write(b"\0" * size):
                        pass
                except OSError as e:
                    assert e.errno == errno.ENOSPC  # noqa: PT017 - no other error may pass

    def free(self) -> None:
        self._ballast.unlink()

    def grow(self) -> None:
        subprocess.run(["mount", "-o", "remount,size=64m", str(self.place)], check=True)

    def read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.place)], check=True)

    def writable(self) -> None:
        subprocess.run(["mount", "-o", "remount,rw", str(self.place)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.place)], check=True)


@pytest.fixture
def disk(tmp_path: Path, shared_runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(place / "state"))
    disk = Disk(place)
    disk.mount("-t", "tmpfs", "-o", f"size={DISK},mode=700")
    state = StatePaths(place / "state").ensure()
    state.runtime.symlink_to(shared_runtime)
    try:
        yield disk
        disk.writable()
        disk.grow()
        for line in agentctl("sessions", "list", "--all", "-q").out.splitlines():
            assert agentctl("sessions", "delete", line, "--yes").code == 0
        assert leftovers(state) == []
    finally:
        disk.unmount()


@pytest.fixture
def session(disk: Disk) -> str:
    """A session that has had a turn and sleeps."""
    assert agentctl("sessions", "create", "work", "--agent", "mock").code == 0
    assert send("the codeword is heron").code == 0
    assert agentctl("sessions", "release", "work").code == 0
    return "work"


def send(text: str, *options: str) -> Done:
    return agentctl("sessions", "send", "work", text, "--json", *options)


def events() -> list[str]:
    """The numbers, types and turns of all events, as text."""
    done = agentctl("sessions", "events", "work", "--json")
    assert done.code == 0, done
    return [f"{e['sequence']} {e['type']} {e['turn_id']}" for e in done.events]


def is_said(done: Done, *codes: str) -> bool:
    """One plain error with a hint, and the exit code of a state directory that cannot be used."""
    error = done.envelope["error"] if done.out.startswith('{"agentctl"') else done.events[-1]["error"]
    return done.code == 1 and error["code"] in codes and bool(error["hint"]) and "Traceback" not in done.err


READING = [
    ("sessions", "list"),
    ("sessions", "get", "work"),
    ("sessions", "events", "work"),
    ("sessions", "transcript", "work"),
]
WRITING = [
    ("run", "--agent", "mock", "Hello"),
    ("sessions", "create", "another", "--agent", "mock"),
    ("sessions", "send", "work", "Hello"),
    ("sessions", "stream", "work", "Hello"),
]


@pytest.mark.slow
def test_a_full_disk_is_said_by_every_command_and_changes_nothing(disk: Disk, session: str) -> None:
    before = events()
    disk.fill()
    for command in WRITING:
        done = agentctl(*command, "--json")
        assert is_said(done, "disk_full"), done
    for command in READING:
        done = agentctl(*command, "--json")
        assert done.code == 0 or is_said(done, "disk_full"), done
    disk.free()
    state = StatePaths(disk.place / "state")
    assert leftovers(state) == []
    assert [row["name"] for row in agentctl("sessions", "list", "--json").data] == ["work"]
    assert events() == before
    done = send("@recall")
    assert "heron" in done.data["text"], done
    assert done.data["context"] == "restored"


@pytest.mark.slow
def test_a_disk_that_fills_up_in_a_turn_ends_it_plainly_and_keeps_what_was_said(disk: Disk, session: str) -> None:
    endless = "@chunks=100000 @size=2000 @delay=0.001"
    done = agentctl("sessions", "stream", "work", endless, "--turn-id", "flood", "--json")
    # The log or its mirror is the first that finds no room: the turn was cut off, or goes on unwatched to that point.
    assert (done.code, done.events[-1]["outcome"]) in ((8, "interrupted"), (1, "failed")), done.events[-1]
    assert done.events[-1]["error"]["code"] == "disk_full"
    shown = [event["sequence"] for event in done.events[:-1]]
    assert shown == list(range(shown[0], shown[0] + len(shown)))
    assert send("Hello").code != 0
    disk.grow()
    again = send("Hello", "--turn-id", "flood")
    assert again.data["outcome"] == "interrupted", again
    listed = events()
    assert len([line for line in listed if "turn.ended flood" in line]) == 1
    assert set(shown) <= {int(line.split()[0]) for line in listed}, "what was shown is there"
    recalled = send("@recall")
    assert "heron" in recalled.data["text"], recalled


@pytest.mark.slow
def test_what_was_acknowledged_before_the_disk_was_full_is_there_after_it(disk: Disk, session: str) -> None:
    sent = agentctl("sessions", "send", "work", "@chunks=5 @delay=0.02", "--no-wait", "--turn-id", "kept", "--json")
    assert sent.data["turn_id"] == "kept"
    disk.fill()
    time.sleep(0.5)  # the turn goes on against the full disk
    assert send("Hello").code != 0
    disk.free()
    done = send("Hello", "--turn-id", "kept")
    assert done.data["outcome"] in ("completed", "interrupted"), done
    ended = [line for line in events() if "turn.ended kept" in line]
    assert len(ended) == 1
    assert "heron" in send("@recall").data["text"]


@pytest.mark.slow
def test_a_read_only_state_directory_is_said_and_survived(disk: Disk, session: str) -> None:
    before = events()
    disk.read_only()
    for command in (*WRITING, *READING):
        done = agentctl(*command, "--json")
        assert (command in READING and done.code == 0) or is_said(done, "state_not_writable"), done
    disk.writable()
    assert events() == before
    assert "heron" in send("@recall").data["text"]


@pytest.mark.slow
def test_a_deletion_on_a_full_disk_is_done_or_said_and_leaves_nothing_behind(disk: Disk, session: str) -> None:
    assert send("Hello").code == 0
    disk.fill()
    deleted = agentctl("sessions", "delete", "work", "--yes", "--json")
    assert deleted.code == 0 or is_said(deleted, "disk_full"), deleted
    if deleted.code:
        disk.free()
        assert agentctl("sessions", "delete", "work", "--yes").code == 0
    state = StatePaths(disk.place / "state")
    assert leftovers(state) == []
    assert not list((state.volumes / "default" / "agents").iterdir())
