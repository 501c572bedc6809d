"""One session's log on its way to the volume and back. Everything here blocks, and belongs to one thread at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agentctl.supervisor.fresh_files import read_record, write_whole
from agentctl.supervisor.keep.pieces import Chain, Used, begin_path, piece_of
from agentctl.supervisor.keep.read import read_into, verified
from agentctl.supervisor.keep.volume_files import claim, reading, remove, unless_taken_over, write_file
from agentctl.supervisor.log.files import open_directory, said_as_ours
from agentctl.supervisor.log.pages import Cursor, Segment, list_segments
from agentctl.supervisor.log.repair import last_whole

PIECE_BYTES = 8 * 1024 * 1024
_PAGE_BYTES = 1024 * 1024
_WHAT = "the kept copy of the session log"
MARK = "kept.json"
"""In the local log's directory: ``{"sandbox_id", "fencing"}`` of the supervisor that wrote it last."""

_STAGING = ".kept-new"
_LEVELS = (64 * 1024, 512 * 1024, 4 * 1024 * 1024)
_MANY = 8
_BEGINS_KEPT = 16


class Restored(NamedTuple):
    """What the volume had: up to which record, whether the local log was made of it, and what ended it (``Chain``)."""

    last: int
    was_used: bool
    problem: str | None


class KeptLog:
    """``restore`` before the log is opened, then ``copy`` whenever there is more.

    Both raise ``LeaseLost`` when a higher fencing number is at work, and what ``said_as_ours`` makes of an ``OSError``.
    """

    def __init__(self, local: Path, kept: Path, sandbox_id: str, fencing: int) -> None:
        self._local = local
        self._kept = kept
        self._sandbox_id = sandbox_id
        self._fencing = fencing
        self._chain: Chain | None = None
        self._used: list[Used] = []
        self._segments: list[Segment] = []
        self._cursor: Cursor | None = None
        self.last = 0
        """The last record that is on the volume."""

    def restore(self) -> Restored:
        """Make the local log the one of the volume where that knows more, or is another supervisor's."""
        with said_as_ours(self._kept, _WHAT):
            claim(self._kept, self._fencing)
        with reading(self._kept, _WHAT):
            chain = verified(self._kept)
            local = list_segments(self._local)
            wrote = self._wrote_local()
            is_late = chain.last > 0 and (wrote is None or chain.fencing > wrote or chain.last > last_whole(local))
        with said_as_ours(self._local):
            if is_late or (local and wrote is None):
                chain = self._replace_local()
            mark = {"sandbox_id": self._sandbox_id, "fencing": self._fencing}
            write_whole(self._local / MARK, json.dumps(mark).encode())
        self._chain = chain
        return Restored(chain.last, is_late, chain.problem)

    def _wrote_local(self) -> int | None:
        """The fencing number of the local log's last writer; None when it is not one of this sandbox."""
        mark: dict[str, Any] = read_record(self._local / MARK)
        fencing = mark.get("fencing") if mark.get("sandbox_id") == self._sandbox_id else None
        return fencing if isinstance(fencing, int) else None

    def _replace_local(self) -> Chain:
        """Whoever dies in here has no mark, and does it again."""
        open_directory(self._local)
        staging = self._local / _STAGING
        chain = read_into(staging, self._kept)
        remove(self._local / MARK)
        for segment in list_segments(self._local):
            segment.path.unlink()
        for segment in list_segments(staging):
            segment.path.rename(self._local / segment.path.name)
        staging.rmdir()
        return chain

    def _begin(self, chain: Chain, held: int) -> None:
        """Before anything of ours is on the volume: nobody else's is in the log from here on."""
        write_file(begin_path(self._kept, self._fencing, held), [b"\n"])
        self._used = [used for used in chain.used if used.last <= held]
        self.last = self._used[-1].last if self._used else 0
        self._tidy(chain)
        self._chain = None

    def _tidy(self, chain: Chain) -> None:
        """Remove what says nothing that the log does not have."""
        used = {one.piece for one in chain.used}
        for piece in chain.pieces:
            is_spent = piece in chain.torn or (piece not in used and piece.last <= self.last)
            if is_spent and piece.fencing <= self._fencing:
                remove(piece.path)
        for begin in sorted(chain.begins)[:-_BEGINS_KEPT]:
            remove(begin.path)

    def copy(self, upto: int, held: int) -> None:
        """Bring the records up to this number to the volume; ``held`` was the last one when the log was opened. The
        cost is that of the new ones, and of pieces that are put together: each byte is written about once for each of
        the three sizes that a piece grows through."""
        if upto <= self.last:
            return
        with said_as_ours(self._kept, _WHAT), unless_taken_over(self._kept, self._fencing):
            if self._chain is not None:
                self._begin(self._chain, held)
            while self.last < upto:
                self._add(upto)
            while count := due([used.size for used in self._used]):
                self._put_together(count)

    def close(self) -> None:
        if self._cursor is not None:
            self._cursor.close()

    def _add(self, upto: int) -> None:
        """A new piece of what follows. When it cannot be written, the next attempt begins at the same record."""
        cursor = self._cursor or Cursor(self._segments, self.last)
        self._cursor = None
        self._segments[:] = list_segments(self._local)
        try:
            data, last = _records(cursor, upto, PIECE_BYTES)
            if last == self.last:
                raise FileNotFoundError(None, "the local log has no more what is to be kept")
            self._used.append(self._write(self.last, last, data))
        except BaseException:
            cursor.close()
            raise
        self._cursor, self.last = cursor, last

    def _write(self, after: int, last: int, data: bytes) -> Used:
        piece = piece_of(self._kept, after, last, self._fencing, data)
        return Used(after, last, write_file(piece.path, [data]), piece)

    def _put_together(self, count: int) -> None:
        """One piece in the place of the last ``count``; read from the local log, since a volume is slow."""
        parts = self._used[-count:]
        cursor = Cursor(self._segments, parts[0].after)
        try:
            data, last = _records(cursor, parts[-1].last, sum(part.size for part in parts) + 1)
        finally:
            cursor.close()
        if last != parts[-1].last:
            raise FileNotFoundError(None, "the local log has no more what is to be kept")
        self._used[-count:] = [self._write(parts[0].after, last, data)]
        for part in parts:
            remove(part.piece.path)


def due(sizes: Sequence[int]) -> int:
    """How many of the last pieces should become one: so many that are small, of one of three kinds of small; else 0."""
    for limit in _LEVELS:
        count = 0
        while count < len(sizes) and sizes[-1 - count] < limit:
            count += 1
        if count >= _MANY:
            return count
    return 0


def _records(cursor: Cursor, upto: int, most: int) -> tuple[bytes, int]:
    """The records from the cursor on, as they are in the log, of about ``most`` bytes; and the last one's number."""
    parts: list[bytes] = []
    size = 0
    while size < most and (page := cursor.copy(upto, max_bytes=_PAGE_BYTES)):
        parts.append(page)
        size += len(page)
    return b"".join(parts), cursor.after
