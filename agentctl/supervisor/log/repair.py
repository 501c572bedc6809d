"""What a writer finds at the end of a log, and how it cuts off what a crash tore."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from agentctl.supervisor.log.pages import Segment, sequence_of


class Torn(NamedTuple):
    """A side file with what was cut off, and its size."""

    file: str
    size: int


def repair(segments: list[Segment]) -> tuple[int, list[Torn]]:
    """Cut a log after its last whole record, keeping what is cut in ``.torn`` files beside it.

    Return that record's number, and what was torn. A last segment with nothing whole in it is removed, unless it is the
    only one: its name still tells which numbers were given.
    """
    torn: list[Torn] = []
    while segments:
        last = _repair_tail(segments[-1], torn)
        if last >= segments[-1].first or len(segments) == 1:
            return last, torn
        segments.pop().path.unlink()
    return 0, torn


def last_whole(segments: list[Segment]) -> int:
    """The number of a log's last whole record, as ``repair`` would find it; nothing is changed."""
    for segment in reversed(segments):
        number = _last_whole(segment)
        if number is not None:
            return number
    return segments[0].first - 1 if segments else 0


def _repair_tail(segment: Segment, torn: list[Torn]) -> int:
    """Only a crash of the machine can tear more than the last record (blocks written out of order): then the records do
    not count up to the last one, or there is a hole of NULs in one, and the cut is made before the first that does not
    fit.
    """
    data = segment.path.read_bytes()
    size = data.rfind(b"\n") + 1
    count = data.count(b"\n")
    last = data[data.rfind(b"\n", 0, size - 1) + 1 : size - 1]
    if size and (b"\0" in data or not _is_record(last, segment.first + count - 1)):
        count, size = _sound_part(data, segment.first)
    if size < len(data):
        torn.append(Torn(_keep(segment.path, data[size:]).name, len(data) - size))
        os.truncate(segment.path, size)
    return segment.first + count - 1


def _sound_part(data: bytes, first: int) -> tuple[int, int]:
    count = size = 0
    for line in data.split(b"\n")[:-1]:
        if not _is_record(line, first + count):
            break
        count += 1
        size += len(line) + 1
    return count, size


def _last_whole(segment: Segment) -> int | None:
    """The last whole record's number, reading only the segment's end."""
    with open(segment.path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        span = 64 * 1024
        while True:
            start = max(end - span, 0)
            file.seek(start)
            lines = file.read(end - start).split(b"\n")[:-1]
            for line in reversed(lines if start == 0 else lines[1:]):
                number = sequence_of(line)
                if number is not None and _is_record(line, number):
                    return number
            if start == 0:
                return None
            span *= 8


def _is_record(line: bytes, number: int) -> bool:
    if sequence_of(line) != number:
        return False
    try:
        json.loads(line.partition(b"\t")[0])
    except ValueError:
        return False
    return True


def _keep(path: Path, torn: bytes) -> Path:
    side = path.with_name(f"{path.name}.{time.time_ns()}.torn")
    fd = os.open(side, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(torn)
        file.flush()
        os.fsync(fd)
    return side
