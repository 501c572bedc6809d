"""An agent's stderr, kept on disk within bounds: its beginning, and its latest part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from agentctl.supervisor.redaction import Redact

HEAD_BYTES = 64 * 1024
TAIL_BYTES = 256 * 1024
HEAD_LINES = 20
TAIL_LINES = 50
_LINE_CHARS = 1000

Json = dict[str, Any]


class StderrFile:
    """The first 64 KiB are in ``path``, the last 256 KiB or more in ``<path>.old`` and ``<path>.new``, by turns.

    Secrets are cut out, also those that come in pieces.
    """

    def __init__(self, path: Path, redact: Redact | None = None) -> None:
        self._path = path
        self._redacted = redact.stream() if redact is not None else None
        self._new = path.with_name(path.name + ".new")
        self._old = path.with_name(path.name + ".old")
        self._lines = 0
        self._size = 0
        self._part_size = 0
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._new.unlink(missing_ok=True)
        self._old.unlink(missing_ok=True)
        self._fd = _create(path)

    def feed(self, data: bytes) -> None:
        """Take what came from the pipe, in pieces of any size."""
        self._write(data if self._redacted is None else self._redacted.feed(data))

    def flush(self) -> None:
        """Write what waited for its end, too."""
        if self._redacted is not None:
            self._write(self._redacted.flush())

    def close(self) -> None:
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1

    def summary(self) -> Json:
        """``{"head", "tail", "truncated", "total_lines"}``: the first 20 and the last 50 lines; when there are no more
        than 70, all are in ``head`` and ``tail`` is null.
        """
        self.flush()
        head, tail = _text(self._path), _text(self._old) + _text(self._new)
        unfinished = not (tail or head).endswith("\n") and self._size > 0
        total = self._lines + unfinished
        whole = self._size <= HEAD_BYTES
        head_lines, tail_lines = head.splitlines(), (head if whole else tail).splitlines()
        if whole and total <= HEAD_LINES + TAIL_LINES:
            return {"head": _clip(head_lines), "tail": None, "truncated": False, "total_lines": total}
        return {
            "head": _clip(head_lines[:HEAD_LINES]),
            "tail": _clip(tail_lines[-TAIL_LINES:]),
            "truncated": True,
            "total_lines": total,
        }

    def _write(self, data: bytes) -> None:
        if not data or self._fd < 0:
            return
        self._lines += data.count(b"\n")
        room = max(HEAD_BYTES - self._size, 0)
        self._size += len(data)
        if room:
            _write_what_fits(self._fd, data[:room])
        if len(data) > room:
            self._write_tail(data[room:][-TAIL_BYTES:])

    def _write_tail(self, data: bytes) -> None:
        if self._part_size == 0 or self._part_size >= TAIL_BYTES:
            try:
                if self._part_size:
                    os.replace(self._new, self._old)
                fd = _create(self._new)
            except OSError:  # as in _write_what_fits: the agent goes on
                return
            os.close(self._fd)
            self._fd, self._part_size = fd, 0
        _write_what_fits(self._fd, data)
        self._part_size += len(data)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _write_what_fits(fd: int, data: bytes) -> None:
    """A full disk must not stop the agent: its stderr is then incomplete, and the session log says so of the disk."""
    try:
        os.write(fd, data)
    except OSError:
        return


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _clip(lines: list[str]) -> str:
    return "\n".join(line if len(line) <= _LINE_CHARS else line[:_LINE_CHARS] + "…" for line in lines)
