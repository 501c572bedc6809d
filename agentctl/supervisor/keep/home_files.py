"""What of HOME is kept, and whether it has changed."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from agentctl.supervisor.files.write import is_temporary
from agentctl.supervisor.fresh_files import PLACED as LOGINS
from agentctl.supervisor.fresh_files import read_record
from agentctl.supervisor.preparation import PLACED as FILES

MARK = ".local/state/agentctl/kept.json"
CACHES = frozenset(
    (
        ".cache",
        ".bun/install/cache",
        ".cargo/registry/cache",
        ".cargo/registry/src",
        ".gradle/caches",
        ".npm/_cacache",
        ".npm/_npx",
        "go/pkg/mod/cache",
    )
)
"""Below HOME: what their programs fetch or make again when it is missing."""

_MOST_PLACED_BYTES = 64 * 1024 * 1024


class Wanted:
    """Which members of HOME are kept. ``unreadable`` are those that should be, and cannot be read."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._left_out = CACHES | {MARK} | set(_as_placed(home))
        self.unreadable: set[str] = set()

    def leaves_out(self, member: str) -> bool:
        """As ``pack`` asks."""
        if member in self._left_out:
            return True
        path = self._home / member
        if path.is_symlink() or os.access(path, os.R_OK) or not os.path.lexists(path):
            return False
        self.unreadable.add(member)
        return True

    def fingerprint(self) -> str:
        """Another one when anything that is kept has changed. No file is read."""
        digest = hashlib.sha256()
        for line in self._lines(""):
            digest.update(line)
        return digest.hexdigest()

    def _lines(self, prefix: str) -> Iterator[bytes]:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._home / prefix) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                member = prefix + entry.name
                if is_temporary(entry.name) or self.leaves_out(member):
                    continue
                yield from self._entry(entry, member)

    def _entry(self, entry: os.DirEntry[str], member: str) -> Iterator[bytes]:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(status.st_mode):
            yield f"{member!a} {status.st_mode}\n".encode()
            yield from self._lines(f"{member}/")
        else:
            times = f"{status.st_mtime_ns} {status.st_ctime_ns}"
            yield f"{member!a} {status.st_mode} {status.st_size} {times}\n".encode()


def _as_placed(home: Path) -> Iterator[str]:
    """The files that agentctl put into HOME, and puts there again where they are missing, that are as they were."""
    for record in (LOGINS, FILES):
        for relative, digest in read_record(home / record).items():
            with suppress(OSError, ValueError):
                if _digest(home / relative) == digest:
                    yield relative


def _digest(path: Path) -> str | None:
    """Of a small regular file."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_PLACED_BYTES:
            return None
        return hashlib.sha256(file.read()).hexdigest()
