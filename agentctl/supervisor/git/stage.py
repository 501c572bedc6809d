"""Where a repository is cloned to before it is whole: a hidden directory beside its target, then renamed.

So nobody sees a half-made repository, and a supervisor that is killed leaves nothing under the target's name. What it
does leave is swept by the next clone to that place.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from contextlib import suppress

from agentctl.errors import AlreadyExists, DiskFull, GitFailed

_MARK = ".agentctl-clone-"


class Stage:
    """Made with its directory; ``repository`` is where to clone to. ``place`` or ``drop`` ends it."""

    def __init__(self, target: str) -> None:
        """Raise ``AlreadyExists``, ``DiskFull`` or ``GitFailed``; nothing is left then."""
        check_free(target)
        self.target = target
        self._parent = os.path.dirname(target)
        self._made = _missing_parents(self._parent)
        self._directory = os.path.join(self._parent, _MARK + secrets.token_hex(6))
        self.repository = os.path.join(self._directory, os.path.basename(target))
        self._lock: int | None = None
        try:
            os.makedirs(self._parent, exist_ok=True)
            os.mkdir(self._directory, 0o700)
            self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            self.drop()
            raise _place_error(target, e) from e

    def place(self) -> None:
        """Give the repository its name. Raise ``AlreadyExists`` when something else has got it meanwhile."""
        try:
            os.rename(self.repository, self.target)
        except OSError as e:
            if e.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise _exists(self.target) from e
            raise _place_error(self.target, e) from e
        self._close()

    def drop(self) -> None:
        """Leave nothing, also of the directories that were made for it; not of a target that was placed."""
        self._close()
        for parent in self._made:
            with suppress(OSError):  # somebody has put something into it
                os.rmdir(parent)

    def undo(self) -> None:
        """Take back what was placed."""
        shutil.rmtree(self.target, ignore_errors=True)
        self.drop()

    def _close(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def is_free(target: str) -> bool:
    """Nothing is there, or an empty directory."""
    if not os.path.lexists(target):
        return True
    try:
        return not os.path.islink(target) and not os.listdir(target)
    except OSError:
        return False


def check_free(target: str) -> None:
    """Raise ``AlreadyExists`` where something is."""
    if not is_free(target):
        raise _exists(target)


def _exists(target: str) -> AlreadyExists:
    return AlreadyExists(
        f"{target} is there already, and is no empty directory.",
        hint="Choose another place with --path, or remove it first.",
        details={"class": "exists", "path": target},
    )


def _missing_parents(parent: str) -> list[str]:
    """The directories above the target that are not there yet, the deepest first."""
    missing = []
    while parent and not os.path.lexists(parent):
        missing.append(parent)
        parent = os.path.dirname(parent)
    return missing


def sweep(target: str) -> None:
    """Remove what dead supervisors left beside the target: nobody holds its lock."""
    parent = os.path.dirname(target)
    with suppress(OSError):
        for name in os.listdir(parent):
            if name.startswith(_MARK):
                _remove_if_dead(os.path.join(parent, name))


def _remove_if_dead(directory: str) -> None:
    with suppress(OSError):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(fd)


def _place_error(target: str, error: OSError) -> DiskFull | GitFailed:
    details = {"class": "other", "path": target}
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The sandbox's disk is full: nothing was cloned to {target}.", details=details)
    return GitFailed(f"Cannot clone to {target}: {error.strerror}.", hint="Choose another --path.", details=details)
