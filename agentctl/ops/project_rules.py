"""Which files count: by the ``.gitignore`` files among them, and by patterns in the same language."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

LeaveOut = Callable[[str], bool]
"""Whether an entry of a directory is left out: its path from the top on."""

IGNORE_FILE = ".gitignore"
MAX_IGNORE_BYTES = 1024 * 1024
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def is_git_path(path: str) -> bool:
    """Whether a repository's own files lie there, which are no part of what is compared. Git itself never takes a
    path with such a part, however it is written."""
    return any(part.lower() == ".git" for part in path.split("/"))


def excluded(top: str, patterns: Iterable[str]) -> LeaveOut:
    """What these lines leave out as if they were the ``.gitignore`` of the directory ``top``."""
    rules = Rules()
    rules.add("", "\n".join(patterns))
    return lambda path: rules.ignored(path, is_directory=_is_directory(top, path))


def uncounted(top: str, keep: Iterable[str]) -> LeaveOut:
    """What no snapshot takes of the directory ``top``, so that it need not be read; ``keep`` are files that count
    although a rule leaves them out."""
    rules = rules_of(top)
    wanted = {part for path in keep for part in (path, *parents_of(path))}

    def leave_out(path: str) -> bool:
        if is_git_path(path):
            return True
        return path not in wanted and rules.ignored(path, is_directory=_is_directory(top, path))

    return leave_out


def parents_of(path: str) -> list[str]:
    """``a/b/c`` → ``a``, ``a/b``."""
    return [path[:at] for at, letter in enumerate(path) if letter == "/"]


def _is_directory(top: str, path: str) -> bool:
    whole = os.path.join(top, path)
    return os.path.isdir(whole) and not os.path.islink(whole)


class Rules:
    """``.gitignore`` files by directory. ``load`` brings the text of one that was not added, by its directory."""

    def __init__(self, load: Callable[[str], str] | None = None) -> None:
        self._load = load
        self._specs: dict[str, GitIgnoreSpec | None] = {}
        self._directories: dict[str, bool] = {}

    def add(self, directory: str, text: str) -> None:
        from pathspec import GitIgnoreSpec

        lines = [line for line in text.splitlines() if line.strip()]
        try:
            self._specs[directory] = GitIgnoreSpec.from_lines(lines) if lines else None
        except ValueError:  # git leaves out a line that it does not understand
            good = [line for line in lines if _is_pattern(line)]
            self._specs[directory] = GitIgnoreSpec.from_lines(good) if good else None
        self._directories.clear()

    def ignored(self, path: str, is_directory: bool = False) -> bool:
        """Also what lies in a directory that is ignored."""
        parent = path.rpartition("/")[0]
        if parent and self._directory(parent):
            return True
        return self._directory(path) if is_directory else self._verdict(path, path)

    def _directory(self, path: str) -> bool:
        if path not in self._directories:
            parent = path.rpartition("/")[0]
            self._directories[path] = (parent != "" and self._directory(parent)) or self._verdict(path, f"{path}/")
        return self._directories[path]

    def _verdict(self, path: str, shown: str) -> bool:
        """Of the nearest file that says anything; ``shown`` ends in a slash for a directory."""
        directory = path
        while directory:
            directory = directory.rpartition("/")[0]
            spec = self._spec(directory)
            if spec is not None:
                said = spec.check_file(shown[len(directory) + 1 :] if directory else shown).include
                if said is not None:
                    return said
        return False

    def _spec(self, directory: str) -> GitIgnoreSpec | None:
        if directory not in self._specs:
            if self._load is None:
                return None
            self.add(directory, self._load(directory))
        return self._specs[directory]


def _is_pattern(line: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def rules_of(top: str) -> Rules:
    """The rules of a directory of this host, read when they are needed. No link is followed to a ``.gitignore``."""

    def load(directory: str) -> str:
        try:
            fd = os.open(os.path.join(top, directory, IGNORE_FILE), _READ)
        except OSError:
            return ""
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return ""
            return file.read(MAX_IGNORE_BYTES).decode("utf-8", "surrogateescape")

    return Rules(load)
