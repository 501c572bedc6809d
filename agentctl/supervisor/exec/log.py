"""The log of one process: numbered pieces of its output, on disk within bounds, read by any number of followers.

A follower that reads is waited for: before a piece goes that it has not had, the process's output is not read on, so
that the process itself waits, as at any pipe. One that does not move for ``PATIENCE_S`` holds nothing up any more, and
is told what it missed; only a follower that was opened to ``hold`` is waited for as long as it is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agentctl.supervisor.exec.log_files import LOST, STREAMS, Segment, backwards
from agentctl.supervisor.log.files import said_as_ours
from agentctl.supervisor.news import News

PATIENCE_S = 1.0
EXPECTED_S = 10.0
PAGE_BYTES = 256 * 1024
_PAGE_PIECES = 2048


class Entry(NamedTuple):
    """A piece of output as it was read from the process. Of ``stream`` "lost", ``lost`` bytes are missing here."""

    sequence: int
    stream: str
    time_ms: int
    data: bytes
    lost: int = 0


class Page(NamedTuple):
    """Entries, and the number that the next page comes after. ``gap`` is the first number that is still kept, when
    there were others before it that the reader has not had."""

    entries: list[Entry]
    after: int
    gap: int | None = None


class _Follower:
    def __init__(self, after: int, hold: bool) -> None:
        self.after = after
        self.hold = hold
        self.is_stuck = False


class ProcessLog:
    """See the module. ``append`` is for the one who reads the process's output, and only while not ``must_wait``."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """Open the log in ``directory``, or begin one. Raise ``DiskFull`` or ``StateError``."""
        self.directory = directory
        self._half = max(max_bytes // 2, 1)
        self._followers: set[_Follower] = set()
        self._news = News()
        self._room: list[Callable[[], None]] = []
        self._expected: _Follower | None = None
        self._unsaid = 0
        self._ended = False
        with said_as_ours(directory, "the output of a process"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = [Segment.find(directory, ".1"), Segment.find(directory, "")]
            self._segments = [s for s in found if s is not None] or [Segment.create(directory, 1)]

    @property
    def first(self) -> int:
        """The number of the first entry that is kept; ``last + 1`` when there is none."""
        return self._segments[0].first

    @property
    def last(self) -> int:
        """The number of the last entry; 0 when there was none."""
        return self._segments[-1].last

    @property
    def ended(self) -> bool:
        return self._ended

    def append(self, stream: str, data: bytes) -> None:
        """Add a piece. What the disk does not take is counted, and said by an entry as soon as one can be written."""
        if self._ended or not data:
            return
        now = int(time.time() * 1000)
        self._make_room()
        self._say_lost(now)
        self._unsaid += self._segments[-1].append(STREAMS.index(stream), data, now)
        self._news.tell()

    def expect(self) -> None:
        """Keep everything for one who is about to attach: to ``follow`` and to ``hold``."""
        self._expected = expected = _Follower(0, True)
        self._followers.add(expected)
        asyncio.get_running_loop().call_later(EXPECTED_S, self._leave, expected)

    def must_wait(self, resume: Callable[[], None]) -> bool:
        """Whether a follower still needs what the next piece may push out; ``resume`` is then called once when there
        is room."""
        if not self._needed():
            return False
        self._room.append(resume)
        if len(self._room) == 1:
            waited_for = {f: f.after for f in self._followers if not f.hold}
            asyncio.get_running_loop().call_later(PATIENCE_S, self._lose_patience, waited_for)
        return True

    def end(self) -> None:
        """No more comes: followers end after the last entry."""
        if not self._ended:
            self._say_lost(int(time.time() * 1000))
            self._ended = True
            for segment in self._segments:
                segment.close()
            self._news.tell()

    def read(self, after: int, streams: Collection[str] = (), *, limit: int = _PAGE_PIECES) -> Page:
        """The entries after a number, of these streams or of all, up to ``limit`` and about ``PAGE_BYTES``."""
        gap = self.first if after + 1 < self.first else None
        after = max(after, self.first - 1)
        entries: list[Entry] = []
        size = 0
        for segment in self._segments:
            if after >= segment.last:
                continue
            pieces = segment.pieces(after + 1, limit)
            with segment.reader() as reader:
                for piece in pieces:
                    after += 1
                    name = STREAMS[piece.stream]
                    if piece.stream == LOST:
                        entries.append(Entry(after, name, piece.time_ms, b"", piece.place))
                    elif not streams or name in streams:
                        entries.append(Entry(after, name, piece.time_ms, reader.data(piece)))
                        size += piece.length
                        if size >= PAGE_BYTES or len(entries) >= limit:
                            return Page(entries, after, gap)
            if pieces:
                break
        return Page(entries, after, gap)

    def before_tail(self, count: int, streams: Collection[str] = ()) -> int:
        """The number after which the last ``count`` entries of these streams come."""
        for number, piece, _ in backwards(self._segments):
            if count == 0:
                return number
            if not streams or STREAMS[piece.stream] in streams:
                count -= 1
        return self.first - 1

    def before_tail_lines(self, count: int, streams: Collection[str] = ()) -> tuple[int, int]:
        """The same for lines: the number, and how many bytes of the first entry belong to earlier lines."""
        if count == 0:
            return self.last, 0
        wanted, seen = count, -1
        for number, piece, segment in backwards(self._segments):
            if piece.stream == LOST or (streams and STREAMS[piece.stream] not in streams):
                continue
            with segment.reader() as reader:
                data = reader.data(piece)
            if seen < 0:
                seen = 0
                wanted += data.endswith(b"\n")  # the end of the last line begins no other
            ends = data.count(b"\n")
            if seen + ends >= wanted:
                cut = _after_line(data, seen + ends - wanted + 1)
                return (number - 1, cut) if cut < len(data) else (number, 0)
            seen += ends
        return self.first - 1, 0

    def before_last(self, size: int) -> tuple[int, bool]:
        """The number after which about the last ``size`` bytes come, and whether there were earlier ones."""
        for number, piece, _ in backwards(self._segments):
            size -= piece.length
            if size < 0:
                return number, True
        return self.first - 1, self.first > 1

    async def follow(
        self, after: int, streams: Collection[str] = (), *, hold: bool = False
    ) -> AsyncGenerator[Page, None]:
        """Pages of what follows a number, then of what comes, until the log has ended and all was read. Close the
        generator (``contextlib.aclosing``): an open one holds the process up."""
        follower = _Follower(after, hold)
        self._followers.add(follower)
        if hold and self._expected is not None:
            self._leave(self._expected)
        try:
            while True:
                page = self.read(follower.after, streams)
                if page.entries or page.gap is not None:
                    yield page
                    await asyncio.sleep(0)  # a reader that never waits must not starve the loop
                elif self._ended and page.after >= self.last:
                    return
                elif page.after == follower.after:
                    await self._news.wait()
                follower.after, follower.is_stuck = page.after, False
                self._tell_room()
        finally:
            self._leave(follower)

    def _leave(self, follower: _Follower) -> None:
        self._followers.discard(follower)
        self._tell_room()

    def _needed(self) -> bool:
        if self._segments[-1].size < self._half or len(self._segments) < 2:
            return False
        goes = self._segments[0].last
        return any(f.after < goes and not f.is_stuck for f in self._followers)

    def _make_room(self) -> None:
        current = self._segments[-1]
        if current.size < self._half:
            return
        with suppress(OSError):  # a full disk, or a directory that is gone: the old files grow a little longer
            current.age()
            self._segments = [current]
            self._segments.append(Segment.create(self.directory, current.last + 1))

    def _say_lost(self, now: int) -> None:
        if self._unsaid and self._segments[-1].note_lost(self._unsaid, now):
            self._unsaid = 0

    def _lose_patience(self, waited_for: dict[_Follower, int]) -> None:
        for follower, after in waited_for.items():
            follower.is_stuck = follower.after == after
        self._tell_room()

    def _tell_room(self) -> None:
        if self._room and not self._needed():
            room, self._room = self._room, []
            for resume in room:
                resume()


def _after_line(data: bytes, lines: int) -> int:
    """Where ``data`` goes on after so many line ends."""
    at = 0
    for _ in range(lines):
        at = data.index(b"\n", at) + 1
    return at
