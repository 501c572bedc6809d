"""A tar stream taken apart as it comes, without ever holding more of it than a header.

``tarfile`` reads extended headers whole, whatever their size, keeps every member and wants a thread that waits for the
next bytes. What comes from a sandbox, or goes into one, deserves more distrust.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Generator
from typing import NamedTuple

from agentctl import errors

FAILURE = "agentctl.failure"
"""Key of a global header: the error, as JSON, for which an archive stops there (``files_pack``)."""

MAX_EXTENDED_BYTES = 1024 * 1024
_LATEST = 2**33
"""The highest time of a file that is believed, in Unix s: what comes after it not every system can write."""

_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_KNOWN = (*_FILES, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)

Bytes = Generator[None, bytes, bytes]
"""A step that asks for more by ``yield`` and returns the bytes that it was to read."""


class Member(NamedTuple):
    """One entry: ``name`` relative and without ``..`` (empty for the top itself), ``kind`` as in ``tarfile``."""

    name: str
    kind: bytes
    mode: int
    size: int
    link: str
    modified: int = 0


class TarSteps:
    """Reads by generators that ``yield`` whenever they need the next bytes, so that nothing has to wait in a thread."""

    def __init__(self) -> None:
        self._rest = memoryview(b"")

    def member(self) -> Generator[None, bytes, Member | None]:
        """The next member; None at the archive's end. Raise ``UsageError`` for what is no tar, and for a member that
        would lie outside or is neither file, directory nor link."""
        extended: dict[str, str] = {}
        while True:
            block = yield from self.read(tarfile.BLOCKSIZE)
            if not block.strip(b"\0"):
                return None
            info = _header(block)
            if info.type in _EXTENDED:
                extended |= yield from self._extended(info)
                continue
            return _member(info, extended)

    def read(self, size: int) -> Bytes:
        """Exactly ``size`` bytes, few enough to be held."""
        parts: list[bytes] = []
        while size:
            part = yield from self.some(size)
            parts.append(bytes(part))
            size -= len(part)
        return b"".join(parts)

    def some(self, most: int) -> Generator[None, bytes, memoryview]:
        """At least one byte and at most ``most``, without a copy."""
        while not self._rest:
            self._rest = memoryview((yield))
        part, self._rest = self._rest[:most], self._rest[most:]
        return part

    def skip(self, size: int) -> Generator[None, bytes, None]:
        while size:
            size -= len((yield from self.some(size)))

    def _extended(self, info: tarfile.TarInfo) -> Generator[None, bytes, dict[str, str]]:
        if info.size > MAX_EXTENDED_BYTES:
            raise errors.UsageError(f"The archive has a header of {info.size} bytes; nothing was unpacked.")
        data = yield from self.read(info.size)
        yield from self.skip(-info.size % tarfile.BLOCKSIZE)
        if info.type == tarfile.XGLTYPE:
            _check_failure(_pax(data))
            return {}
        if info.type in _PAX:
            return _pax(data)
        key = "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
        return {key: data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")}


def padding(size: int) -> int:
    """How many bytes follow the data of a member up to the next block."""
    return -size % tarfile.BLOCKSIZE


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as e:
        raise errors.UsageError(f"The body is not a tar archive, or a broken one: {e}; nothing was unpacked.") from e


def _check_failure(records: dict[str, str]) -> None:
    if FAILURE not in records:
        return
    try:
        said = json.loads(records[FAILURE])
        failure = errors.from_code(str(said["code"]), str(said["message"]), hint=said.get("hint"))
    except (ValueError, KeyError, TypeError, AttributeError):
        failure = errors.UsageError("The archive ends with a failure that cannot be read; nothing was unpacked.")
    raise failure


def _pax(data: bytes) -> dict[str, str]:
    """The records ``<length> <key>=<value>\\n`` of an extended header."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data) and data[at] != 0:
        length, _, rest = data[at : at + 20].partition(b" ")
        end = at + int(length) if length.isdigit() and rest else at
        key, equals, value = data[at + len(length) + 1 : end - 1].partition(b"=")
        if end <= at or end > len(data) or not equals:
            raise errors.UsageError("The archive has a broken extended header; nothing was unpacked.")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at = end
    return found


def _member(info: tarfile.TarInfo, extended: dict[str, str]) -> Member:
    name = extended.get("path", info.name)
    size = extended.get("size", str(info.size))
    if info.type not in _KNOWN or any(key.startswith("GNU.sparse") for key in extended):
        raise errors.UsageError(f"{name!r} in the archive is neither file, directory nor link; nothing was unpacked.")
    if not size.isdigit() or len(size) > 18:
        raise errors.UsageError(f"{name!r} in the archive has no proper size; nothing was unpacked.")
    is_file = info.type in _FILES
    kind = tarfile.DIRTYPE if is_file and name.endswith("/") else tarfile.REGTYPE if is_file else info.type
    link = extended.get("linkpath", info.linkname)
    return Member(
        name=inside(name, name),
        kind=kind,
        mode=info.mode,
        size=int(size) if is_file else 0,
        link=inside(link, name) if info.type == tarfile.LNKTYPE else link,
        modified=min(max(int(info.mtime), 0), _LATEST),
    )


def inside(path: str, name: str) -> str:
    """``path`` of member ``name`` without ``.`` and double slashes. Raise ``UsageError`` when it leads outside."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\0" in path:
        raise errors.UsageError(f"{name!r} in the archive would lie outside of its place; nothing was unpacked.")
    return "/".join(parts)
