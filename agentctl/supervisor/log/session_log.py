"""The durable, append-only log of one session: numbered events, one a line, seen by nobody before they are written.

A record is ``<event JSON>\\n`` or ``<event JSON>\\t<raw frame>\\n``; the event JSON starts with ``{"sequence":N,``.
``SessionLog`` is the one writer and every reader of its process; ``LogReader`` reads from another process.

Files of a log's directory: ``lock`` (``log_lock.py``), the segments ``<first sequence>.jsonl``, and ``*.torn`` with
what a crash tore.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from agentctl.errors import SequenceExpired, StateError
from agentctl.events import Draft
from agentctl.supervisor.log.files import SegmentWriter, open_directory, said_as_ours
from agentctl.supervisor.log.lock import LogLock
from agentctl.supervisor.log.pages import PAGE_BYTES, Cursor, Record, Segment, list_segments
from agentctl.supervisor.log.records import Heading, encode
from agentctl.supervisor.log.repair import Torn, last_whole, repair
from agentctl.supervisor.news import News
from agentctl.supervisor.redaction import Redact, make_redactor

__all__ = ["PAGE_BYTES", "LogReader", "Record", "SessionLog", "make_redactor"]

Found = TypeVar("Found")
_LOOKS = 5


class SessionLog:
    """The only writer of a session's log, and a source for any number of readers. One event loop's thread owns it."""

    def __init__(
        self,
        directory: Path,
        session_id: str,
        *,
        min_sequence: int = 0,
        fencing: int = 0,
        redact: Redact | None = None,
        segment_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        """Open or create the log (directory 0700, files 0600) and take its lock.

        A torn tail is cut off, kept in a ``.torn`` side file and said as a ``log.torn`` event ``{"file","bytes"}``.
        Numbers go on above ``max(held, min_sequence)``; a jump is said as the first new event, ``log.gap``
        ``{"from","to"}`` (the missing numbers, both included). A writer with a lower ``fencing`` loses the log to this
        one, alive or not, which is said as ``log.taken_over`` ``{"from","to"}``.
        Raise ``Conflict`` when another writer of the same ``fencing`` holds it, ``LeaseLost`` when one with a higher
        was here, ``StateNotWritable``, ``DiskFull``.
        """
        self._directory = directory
        self._session_id = session_id
        self._redact = redact
        self._news = News()
        self._closed = False
        self.noted: Callable[[bool], None] | None = None
        """Called after each append, with whether that was durable."""
        with said_as_ours(directory), ExitStack() as undo:
            open_directory(directory)
            self._lock = LogLock(directory, session_id, fencing)
            undo.callback(self._lock.close)
            self._segments = list_segments(directory)
            held, torn = repair(self._segments)
            self.held = held
            """The last record that was there when the log was opened."""
            self._last = max(held, min_sequence)
            self._writer = SegmentWriter(directory, self._segments, segment_bytes)
            undo.callback(self._writer.close)
            self._say_what_happened(held, torn, fencing)
            undo.pop_all()

    def _say_what_happened(self, held: int, torn: list[Torn], fencing: int) -> None:
        said = []
        taken_from = self._lock.taken_from
        if self._last > held or taken_from is not None:
            # A gap begins a segment: inside one, numbers follow from their line. So does a take-over: what its old
            # writer was about to write goes to the end of the old segment, where nobody reads it.
            self._writer.rotate(self._last + 1)
        if self._last > held:
            said.append(Draft("log.gap", {"from": held + 1, "to": self._last}, "daemon"))
        if taken_from is not None:
            said.append(Draft("log.taken_over", {"from": taken_from, "to": fencing}, "daemon"))
        said += [Draft("log.torn", {"file": part.file, "bytes": part.size}, "daemon") for part in torn]
        self.append(said, turn_id=None, durable=True)

    @property
    def first_sequence(self) -> int:
        """The first record that is kept; ``last_sequence + 1`` when there is none."""
        return self._segments[0].first if self._segments else self._last + 1

    @property
    def last_sequence(self) -> int:
        """The last record that readers may see; 0 for a new log."""
        return self._last

    def before_last(self, size: int) -> int:
        """The number after which the newest segments begin that have about ``size`` bytes together."""
        for segment in reversed(self._segments):
            with _gone(self._directory):
                size -= segment.path.stat().st_size
            if size <= 0:
                return segment.first - 1
        return self.first_sequence - 1

    def append(
        self,
        drafts: Sequence[Draft],
        *,
        turn_id: str | None,
        native_session_id: str | None = None,
        durable: bool = False,
    ) -> int:
        """Number the drafts, write them in one piece, sync when ``durable``, then show them; return the last number.

        All or nothing: when it raises ``DiskFull``, another ``StateError`` or ``LeaseLost``, the log is as it was
        before. ``raw`` of a draft should be JSON; a raw frame with a tab in it is dumped again.
        """
        if self._closed:
            raise StateError(f"The log of session {self._session_id} is closed.")
        if not drafts:
            return self._last
        first = self._last + 1
        heading = Heading(self._session_id, native_session_id, turn_id)
        records = encode(first, drafts, heading, self._redact)
        self._lock.check()
        self._writer.write(records, first, durable=durable)
        if durable:
            self._lock.check()  # since the first look we may have been stopped for a long time
        self._last += len(drafts)
        self._news.tell()
        if self.noted is not None:
            self.noted(durable)
        return self._last

    def read(
        self, after: int, *, limit: int | None = None, max_bytes: int = PAGE_BYTES, raw: bool = False
    ) -> list[Record]:
        """The records after a number, oldest first, at most ``limit`` and about ``max_bytes``, but at least one when
        there is one; ``[]`` at the end. The cost depends on the page, not on the history.
        Raise ``SequenceExpired`` when the record after ``after`` is no longer kept.
        """
        self._refuse_expired(after)
        cursor = Cursor(self._segments, after)
        try:
            with _gone(self._directory):
                return cursor.page(self._last, limit=limit, max_bytes=max_bytes, raw=raw)
        finally:
            cursor.close()

    async def follow(
        self, after: int, *, max_bytes: int = PAGE_BYTES, raw: bool = False
    ) -> AsyncIterator[list[Record]]:
        """Pages of all records after a number, then of each new one, whatever the reader's speed; ends after the last
        record when the log is closed. Raise ``SequenceExpired`` like ``read``.
        """
        self._refuse_expired(after)
        cursor = Cursor(self._segments, after)
        try:
            while True:
                with _gone(self._directory):
                    page = cursor.page(self._last, max_bytes=max_bytes, raw=raw)
                if page:
                    yield page
                    await asyncio.sleep(0)  # a reader that never waits must not starve the loop
                elif self._closed:
                    return
                else:
                    await self._news.wait()
        finally:
            cursor.close()

    def close(self) -> None:
        """Sync, let followers end after the last record, release the lock. Reading still works; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._news.tell()
        with said_as_ours(self._directory), ExitStack() as leave:
            leave.callback(self._lock.close)
            leave.callback(self._writer.close)
            self._writer.sync()

    def __enter__(self) -> SessionLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse_expired(self, after: int) -> None:
        _refuse_expired(after, self.first_sequence, self._last)


class LogReader:
    """Reads a log that another process may be writing: no lock, no repair; a torn tail is not there.

    It sees a record as soon as it is whole in the file, which may be before it is durable.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def first_sequence(self) -> int:
        """The first record that is kept; ``last_sequence + 1`` when there is none."""
        segments = list_segments(self._directory)
        return segments[0].first if segments else 1

    @property
    def last_sequence(self) -> int:
        """The last whole record; 0 when there is none."""
        return self._looked_at(last_whole)

    def read(
        self, after: int, *, limit: int | None = None, max_bytes: int = PAGE_BYTES, raw: bool = False
    ) -> list[Record]:
        """As ``SessionLog.read``."""

        def page(segments: list[Segment]) -> list[Record]:
            last = last_whole(segments)
            _refuse_expired(after, segments[0].first if segments else 1, last)
            cursor = Cursor(segments, after)
            try:
                return cursor.page(last, limit=limit, max_bytes=max_bytes, raw=raw)
            finally:
                cursor.close()

        return self._looked_at(page)

    def _looked_at(self, look: Callable[[list[Segment]], Found]) -> Found:
        """What ``look`` finds in the segments, listed before any is read: one that has a successor is complete then.

        A writer may remove one meanwhile (repair takes an empty one, retention an old one): then they are listed again.
        """
        for _ in range(_LOOKS):
            try:
                return look(list_segments(self._directory))
            except FileNotFoundError:
                continue
        with _gone(self._directory):
            return look(list_segments(self._directory))


@contextmanager
def _gone(directory: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as e:
        raise StateError(
            f"The session log in {directory} was deleted while its session was alive.",
            hint="Its events up to now may be in the store: agentctl sessions events SESSION",
        ) from e


def _refuse_expired(after: int, first: int, last: int) -> None:
    if after + 1 < first:
        raise SequenceExpired(
            f"Event {after + 1} is no longer in the log, which begins with event {first}.",
            hint=f"Read on from {first - 1}; earlier events may be in the store.",
            details={"first": first, "last": last},
        )
