"""What an image is built from: a Dockerfile and the files beside it, less what ``.dockerignore`` leaves out.

Written as an archive that is the same, byte for byte, as long as the files are: neither times nor owners are in it. So
its hash names the recipe.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from agentctl.errors import UsageError

_VERSION = 1
"""Of the steps that make an image of a recipe, besides what the recipe has."""

_HASH_LETTERS = 16


@dataclass(frozen=True, slots=True)
class Context:
    """``dockerfile`` is its name in ``directory``. ``added`` are files that are not there, by their names; they come
    before those that are."""

    directory: Path
    dockerfile: str
    added: dict[str, bytes] = field(default_factory=dict)

    def write(self, file: IO[bytes]) -> None:
        """Raise ``UsageError`` for a file that cannot be read."""
        with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for name, content in sorted(self.added.items()):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o644
                tar.addfile(info, io.BytesIO(content))
            for name in self._names():
                if name not in self.added:
                    self._add(tar, name)

    def _add(self, tar: tarfile.TarFile, name: str) -> None:
        try:
            info = tar.gettarinfo(str(self.directory / name), arcname=name)
            if info is None:  # a socket
                return
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = 0
            if info.islnk():  # which of two names comes first is chance
                info.type, info.size = tarfile.REGTYPE, (self.directory / name).stat().st_size
            if info.isreg():
                with (self.directory / name).open("rb") as content:
                    tar.addfile(info, content)
            elif info.isdir() or info.issym():
                tar.addfile(info)
        except (PermissionError, FileNotFoundError) as e:
            raise UsageError(
                f"The image cannot be built from {self.directory / self.dockerfile}: {self.directory / name} cannot be "
                f"read: {e.strerror}.",
                hint="All files beside a Dockerfile are sent to the engine: leave some out with a .dockerignore.",
            ) from e

    def _names(self) -> list[str]:
        from docker.utils.build import exclude_paths

        names = exclude_paths(
            str(self.directory), _ignored(self.directory, self.dockerfile), dockerfile=self.dockerfile
        )
        return sorted(names - {""})

    def digest(self) -> str:
        """Names the recipe."""
        sink = _Hashing()
        self.write(sink)  # type: ignore[arg-type]
        return sink.hash.hexdigest()[:_HASH_LETTERS]


class _Hashing:
    def __init__(self) -> None:
        self.hash = hashlib.sha256(f"{_VERSION}\n".encode())

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return len(data)


def _ignored(directory: Path, dockerfile: str) -> list[str]:
    """The patterns of ``<Dockerfile>.dockerignore``, else of ``.dockerignore``."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        try:
            lines = (directory / name).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as e:
            raise UsageError(f"{directory / name} cannot be read: {e.strerror}.") from e
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return []
