"""Files and directories of our own: written privately, removed wholly, never left by a symbolic link."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from agentctl.errors import UsageError
from agentctl.paths import state_errors

_COPY_BYTES = 1024 * 1024


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read. It appears whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    with state_errors(path):
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        new.rename(path)


def make_private_directory(path: Path) -> None:
    """Make a directory that only its owner can enter, and what is missing above it."""
    with state_errors(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it; a missing one is fine. Read-only directories, as package caches make them,
    are no hindrance, and no symbolic link is followed."""
    with state_errors(path):
        if path.is_symlink():
            path.unlink()
            return
        for attempt in range(3):
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                if not path.exists():
                    return  # otherwise another process removes it with us: once more
            except PermissionError:
                if attempt:
                    raise
                _make_writable(path)
            except OSError:
                if attempt == 2:
                    raise  # something still wrote into it twice


def _make_writable(path: Path) -> None:
    for root, directories, _ in os.walk(path):
        for directory in (root, *(os.path.join(root, name) for name in directories)):
            if not os.path.islink(directory):
                os.chmod(directory, stat.S_IRWXU)


def disk_bytes(path: Path) -> int:
    """What a directory and all in it takes on the disk; what is gone or closed to us counts nothing."""
    blocks = 0
    for root, directories, files in os.walk(path):
        for name in (os.curdir, *files, *(one for one in directories if os.path.islink(os.path.join(root, one)))):
            with suppress(OSError):
                blocks += os.lstat(os.path.join(root, name)).st_blocks
    return blocks * 512


def confined(root: Path, relative: str) -> Path:
    """The place of ``relative`` below ``root``, links resolved. Raise ``UsageError`` when it leaves ``root``."""
    check_relative(relative)
    top = root.resolve()
    path = (top / relative).resolve()
    if not path.is_relative_to(top):
        raise UsageError(f"{relative!r} leaves the volume by a symbolic link.", hint="Use the real path on this host.")
    return path


def check_relative(relative: str) -> None:
    """Raise ``UsageError`` for a path that leaves its volume by what it says."""
    if "\0" in relative or relative.startswith(("/", "~")) or ".." in Path(relative).parts:
        raise UsageError(f"{relative!r} is not a path inside the volume.", hint="Give a relative path without `..`.")


def unpack_plain(archive: IO[bytes], target: Path, *, without: int = 0) -> None:
    """Only the plain files and directories of a tar archive, each at its place below ``target``: links in it are
    somebody else's. ``without`` so many of the first parts of their names."""
    import tarfile

    with tarfile.open(fileobj=archive) as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts[without:]
            if ".." in parts or member.name.startswith("/"):
                continue
            path = target.joinpath(*parts)
            if member.isdir():
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif member.isfile():
                content = tar.extractfile(member)
                assert content is not None, "a plain file has content"
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with path.open("wb") as file:
                    shutil.copyfileobj(content, file, _COPY_BYTES)
