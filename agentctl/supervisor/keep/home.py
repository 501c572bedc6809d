"""HOME on its way to the volume and back. Everything here blocks, and belongs to one thread at a time."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from agentctl.errors import DiskFull, UsageError
from agentctl.supervisor.files.pack import pack
from agentctl.supervisor.files.space import FileSpace
from agentctl.supervisor.files.stream import CHUNK_BYTES
from agentctl.supervisor.files.unpack import Unpacker
from agentctl.supervisor.files.write import is_temporary
from agentctl.supervisor.fresh_files import read_record, write_whole
from agentctl.supervisor.keep import HOME_LIMIT_BYTES
from agentctl.supervisor.keep.home_files import MARK, Wanted
from agentctl.supervisor.keep.volume_files import claim, names, reading, remove, unless_taken_over, write_file
from agentctl.supervisor.log.files import said_as_ours

Json = dict[str, Any]
_GENERATION = re.compile(r"(\d{20})\.(\d{1,20})\.([0-9a-f]{64})\.tgz")
_WHAT = "the kept copy of HOME"
_GZIP = 31
_FASTEST = 1


class Generation(NamedTuple):
    """A HOME as it once was. The newest is the one of the highest fencing number, and of those the last one."""

    fencing: int
    number: int
    digest: str
    path: Path


class Restored(NamedTuple):
    """Which generation HOME was made of, if any was good, and why later ones were not taken: ``{"number", "reason"}``,
    ``reason`` being ``torn`` or what is wrong with the archive."""

    number: int | None
    refused: list[Json]


class KeptHome:
    """``restore`` before anything runs in HOME, then ``save``. Both raise ``LeaseLost`` when a higher fencing number
    is at work, and what ``said_as_ours`` makes of an ``OSError``."""

    def __init__(self, home: Path, kept: Path, tmp: Path, sandbox_id: str, fencing: int) -> None:
        self._home = home
        self._kept = kept
        self._tmp = tmp
        self._sandbox_id = sandbox_id
        self._fencing = fencing
        self._saved: str | None = None
        self._good: Generation | None = None
        self.unreadable: set[str] = set()
        """What could not be kept, since it cannot be read."""

    def restore(self) -> Restored | None:
        """Make HOME the newest good generation, unless this sandbox's HOME is as new: then None. A HOME that is there
        is not emptied, what both have is replaced; nothing is changed when this raises."""
        with said_as_ours(self._kept, _WHAT):
            claim(self._kept, self._fencing)
            there = self._generations()
        restored = None
        if there and there[0].fencing > self._marked():
            _clear_unfinished(self._home)
            with reading(self._kept, _WHAT):
                restored = self._restore(there)
        with said_as_ours(self._home / MARK, "a mark"):
            mark = {"sandbox_id": self._sandbox_id, "fencing": self._fencing}
            write_whole(self._home / MARK, json.dumps(mark).encode())
        return restored

    def _marked(self) -> int:
        """The fencing number under which this sandbox's HOME was used last."""
        mark: Json = read_record(self._home / MARK)
        fencing = mark.get("fencing") if mark.get("sandbox_id") == self._sandbox_id else None
        return fencing if isinstance(fencing, int) else -1

    def _restore(self, generations: list[Generation]) -> Restored:
        refused: list[Json] = []
        for generation in generations:
            reason = self._unpack(generation)
            if reason is None:
                self._good = generation
                return Restored(generation.number, refused)
            refused.append({"number": generation.number, "reason": reason})
        return Restored(None, refused)

    def _unpack(self, generation: Generation) -> str | None:
        """Why it is no good; None when HOME has it all now. The checksum is compared before anything is changed."""
        digest = hashlib.sha256()
        with (
            FileSpace("/").target(str(self._home), make_parents=True) as place,
            closing(Unpacker(place, times=True)) as unpacker,
        ):
            try:
                for data in self._unzipped(generation, digest):
                    unpacker.feed([data])
            except (UsageError, zlib.error) as e:
                return str(e) if _digest_of(generation.path) == generation.digest else "torn"
            if digest.hexdigest() != generation.digest:
                return "torn"
            try:
                unpacker.finish()
            except UsageError as e:
                return str(e)
        return None

    def _unzipped(self, generation: Generation, digest: Any) -> Iterator[bytes]:
        unzip = zlib.decompressobj(_GZIP)
        for data in _chunks(generation.path, digest):
            while data:
                yield unzip.decompress(data, CHUNK_BYTES)
                data = unzip.unconsumed_tail
        yield unzip.flush()

    def save(self) -> Json | None:
        """A new generation: ``{"number", "bytes"}``; None when nothing has changed since the last one of this
        supervisor. Raise ``DiskFull`` for a HOME above the limit, too."""
        with said_as_ours(self._home, "the copy of HOME"):
            state = Wanted(self._home).fingerprint()
        if state == self._saved:
            return None
        with said_as_ours(self._kept, _WHAT), unless_taken_over(self._kept, self._fencing):
            pass  # packing is not for nothing
        with said_as_ours(self._tmp, "the copy of HOME"), tempfile.TemporaryFile(dir=self._tmp) as file:
            digest = self._pack(file)
            with said_as_ours(self._kept, _WHAT), unless_taken_over(self._kept, self._fencing):
                generation, size = self._write(file, digest)
        self._saved = state
        return {"number": generation.number, "bytes": size}

    def _pack(self, file: IO[bytes]) -> str:
        wanted = Wanted(self._home)
        digest, size = hashlib.sha256(), 0
        for data in _zipped(pack(FileSpace("/"), str(self._home), leave_out=wanted.leaves_out, strict=True)):
            digest.update(data)
            size += len(data)
            if size > HOME_LIMIT_BYTES:
                raise DiskFull(
                    f"HOME is larger than {HOME_LIMIT_BYTES >> 20} MiB when packed, and is not kept any more.",
                    hint="Move what can be made again to ~/.cache, which is left out.",
                )
            file.write(data)
        self.unreadable = wanted.unreadable
        return digest.hexdigest()

    def _write(self, file: IO[bytes], digest: str) -> tuple[Generation, int]:
        there = self._generations()
        before = self._good or next((one for one in there if _digest_of(one.path) == one.digest), None)
        number = max((one.number for one in there), default=0) + 1
        path = self._kept / f"{number:020d}.{self._fencing}.{digest}.tgz"
        file.seek(0)
        size = write_file(path, iter(lambda: file.read(CHUNK_BYTES), b""))
        self._good = Generation(self._fencing, number, digest, path)
        for one in there:
            if one != before and one.fencing <= self._fencing:
                remove(one.path)
        return self._good, size

    def _generations(self) -> list[Generation]:
        """The newest first."""
        found = [
            Generation(int(m[2]), int(m[1]), m[3], self._kept / m[0])
            for m in map(_GENERATION.fullmatch, names(self._kept))
            if m
        ]
        return sorted(found, reverse=True)


def _zipped(parts: Iterator[bytes]) -> Iterator[bytes]:
    zipping = zlib.compressobj(_FASTEST, wbits=_GZIP)
    for part in parts:
        yield zipping.compress(part)
    yield zipping.flush()


def _chunks(path: Path, digest: Any) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while data := file.read(CHUNK_BYTES):
            digest.update(data)
            yield data


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with suppress(OSError):
        for _ in _chunks(path, digest):
            pass
    return digest.hexdigest()


def _clear_unfinished(home: Path) -> None:
    """A restore that died left its unpacked files in a directory of their own."""
    for name in names(home):
        if is_temporary(name):
            shutil.rmtree(home / name, ignore_errors=True)
