"""The files of a project as they are at one moment, kept in a repository of our own, and what changed between two.

A snapshot is a git tree: made of a tar stream, wherever that comes from (a directory of this host, a sandbox, a
volume), so that a project without git has its changes told as well, and a ``.git`` that the sandbox could write to is
never asked. It has every file but those of ``.git`` directories and those that the ``.gitignore`` files among them
leave out; what was there in the base counts in any case. Git knows no empty directories.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from agentctl.errors import GitFailed
from agentctl.ops.project_git import ended, failed, git, last_words, make_repository, own_environment, spawned
from agentctl.ops.project_rules import IGNORE_FILE, MAX_IGNORE_BYTES, Rules, is_git_path, parents_of
from agentctl.supervisor.files.tar import Member, TarSteps, padding

Json = dict[str, Any]
_KINDS = {"A": "added", "M": "modified", "D": "deleted", "T": "modified"}
_ABSENT = "000000"
GITLINK = "160000"
LINK = "120000"


class Change(NamedTuple):
    """One file: ``status`` is added, modified or deleted; ids and modes are git's, None where it is not there. Lines
    are counted, for a binary file None."""

    path: str
    status: str
    old_mode: str | None
    new_mode: str | None
    old_id: str | None
    new_id: str | None
    added: int | None
    deleted: int | None

    def to_json(self) -> Json:
        return {
            "path": os.fsencode(self.path).decode("utf-8", "replace"),
            "status": self.status,
            "old_mode": self.old_mode,
            "new_mode": self.new_mode,
            "additions": self.added,
            "deletions": self.deleted,
            "binary": self.added is None,
        }


async def take(
    repository: Path, chunks: AsyncIterator[bytes], *, keep: frozenset[str], links: Mapping[str, str]
) -> str:
    """Put what a tar stream brings into a repository of ours, and return the id of its tree. ``keep`` are paths that
    count although a rule leaves them out, ``links`` the submodules (path → commit) that stay where they have no files.

    Raise ``UsageError`` for a broken stream, what the stream tells of its own failure, and ``GitFailed``.
    """
    async with taking(repository, keep=keep, links=links) as taker:
        async for chunk in chunks:
            await taker.feed(chunk)
    return await tree_of(repository)


@asynccontextmanager
async def taking(repository: Path, *, keep: frozenset[str], links: Mapping[str, str]) -> AsyncIterator[Taker]:
    """The same for a stream that somebody else needs, too: ``feed`` it all; with the block's end it is ``HEAD``."""
    with tempfile.TemporaryFile() as said:
        arguments = ("fast-import", "--quiet", "--done", "--force", "--date-format=raw")
        process = await spawned(*arguments, env=own_environment(repository), said=said)
        assert process.stdin is not None
        try:
            taker = Taker(process.stdin, _Reader(keep, links))
            try:
                yield taker
                await taker.finish()
                process.stdin.close()
                await process.wait()
            except (BrokenPipeError, ConnectionResetError):
                await process.wait()
        finally:
            await ended(process)
        if process.returncode != 0:
            raise failed("fast-import", last_words(said))


class Taker:
    """Feeds git with what a tar stream brings."""

    def __init__(self, git_stdin: Any, reader: _Reader) -> None:
        self._git = git_stdin
        self._reader = reader

    async def feed(self, chunk: bytes) -> None:
        await self._send(self._reader.feed(chunk))

    async def finish(self) -> None:
        await self._send(self._reader.commit())

    async def _send(self, parts: list[bytes | memoryview]) -> None:
        self._git.writelines(parts)
        await self._git.drain()


class _Reader:
    """From tar to what ``git fast-import`` reads."""

    def __init__(self, keep: frozenset[str], links: Mapping[str, str]) -> None:
        self._keep = keep
        self._links = links
        self._rules = Rules()
        self._files: dict[str, tuple[str, int]] = {}
        self._out: list[bytes | memoryview] = []
        self._tar = TarSteps()
        self._ended = False
        self._steps = self._read()
        next(self._steps)

    def feed(self, chunk: bytes) -> list[bytes | memoryview]:
        if chunk and not self._ended:
            try:
                self._steps.send(chunk)
            except StopIteration:
                self._ended = True
        out, self._out = self._out, []
        return out

    def _read(self) -> Generator[None, bytes, None]:
        while (member := (yield from self._tar.member())) is not None:
            if member.kind == tarfile.REGTYPE:
                yield from self._file(member)
            elif member.kind == tarfile.SYMTYPE and not is_git_path(member.name):
                target = os.fsencode(member.link)
                self._blob(member.name, LINK, len(target))
                self._out += [target, b"\n"]

    def _file(self, member: Member) -> Generator[None, bytes, None]:
        if self._is_left_out(member.name):
            yield from self._tar.skip(member.size + padding(member.size))
            return
        self._blob(member.name, "100755" if member.mode & 0o100 else "100644", member.size)
        directory, _, name = member.name.rpartition("/")
        text: list[bytes] | None = [] if name == IGNORE_FILE and member.size <= MAX_IGNORE_BYTES else None
        left = member.size
        while left:
            part = yield from self._tar.some(left)
            left -= len(part)
            self._out.append(part)
            if text is not None:
                text.append(bytes(part))
        self._out.append(b"\n")
        yield from self._tar.skip(padding(member.size))
        if text is not None:
            self._rules.add(directory, b"".join(text).decode("utf-8", "surrogateescape"))

    def _is_left_out(self, path: str) -> bool:
        """As far as it can be told by now: a rule may still come that is listed behind the file."""
        return is_git_path(path) or (path not in self._keep and self._rules.ignored(path))

    def _blob(self, path: str, mode: str, size: int) -> None:
        mark = len(self._files) + 1
        self._files[path] = (mode, mark)
        self._out.append(b"blob\nmark :%d\ndata %d\n" % (mark, size))

    def commit(self) -> list[bytes | memoryview]:
        """The end of what git is to read. Raise ``GitFailed`` when the stream was cut off."""
        if not self._ended:
            raise GitFailed("The files of the project were cut off before their end.", hint="Try again.")
        lines = [b"commit HEAD\ncommitter agentctl <agentctl> 0 +0000\ndata 0\n"]
        found = {path: entry for path, entry in self._files.items() if not self._is_left_out(path)}
        for path, (mode, mark) in found.items():
            lines.append(b"M %s :%d %s\n" % (mode.encode(), mark, _quoted(path)))
        parents = {parent for path in found for parent in parents_of(path)}
        for path, commit in self._links.items():
            if path not in parents and path not in found:
                lines.append(b"M %s %s %s\n" % (GITLINK.encode(), commit.encode(), _quoted(path)))
        return [*lines, b"\ndone\n"]


def _quoted(path: str) -> bytes:
    """As git reads a path with any bytes in it."""
    plain = b"".join(
        bytes([byte]) if 32 <= byte < 127 and byte not in b'"\\' else b"\\%03o" % byte for byte in os.fsencode(path)
    )
    return b'"' + plain + b'"'


async def tree_of(repository: Path) -> str:
    """The tree that a repository of ours has at its HEAD."""
    ran = await git("rev-parse", "--verify", "HEAD^{tree}", env=own_environment(repository))
    return ran.out.decode().strip()


async def paths_of(repository: Path, tree: str) -> frozenset[str]:
    ran = await git("ls-tree", "-r", "-z", "--name-only", tree, env=own_environment(repository))
    return frozenset(os.fsdecode(path) for path in ran.out.split(b"\0") if path)


@asynccontextmanager
async def beside(base: Path) -> AsyncIterator[Path]:
    """A repository for as long as the block lasts, which sees all that is in ``base``."""
    place = Path(tempfile.mkdtemp(prefix="now-", dir=base.parent))
    try:
        make_repository(place, [base / "objects"])
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


class Comparison:
    """What changed from the tree ``old`` to the tree ``new``, both in ``repository``; only ``paths``, if there are
    any."""

    def __init__(self, repository: Path, old: str, new: str, paths: Sequence[str] = ()) -> None:
        self.repository = repository
        self.old = old
        self.new = new
        self._paths = paths

    async def changes(self) -> list[Change]:
        """By path."""
        raw = (await self._compared("--raw", "-z")).split(b"\0")
        counts = dict(_counts(await self._compared("--numstat", "-z")))
        entries = zip(raw[::2], raw[1::2], strict=False)
        return [_change(about.decode(), os.fsdecode(path), counts) for about, path in entries]

    async def patch(self, to: IO[bytes]) -> None:
        """Write a patch that ``git apply`` takes, binary files too."""
        await self._compared("--patch", "--binary", "--full-index", to=to)

    async def content(self, object_id: str, to: IO[bytes]) -> None:
        """Write one file of either side."""
        await git("cat-file", "blob", object_id, env=own_environment(self.repository), to=to)

    async def _compared(self, *how: str, to: IO[bytes] | None = None) -> bytes:
        plain = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=none")
        words = ("diff-tree", "-r", *how, *plain, self.old, self.new, "--", *self._paths)
        return (await git(*words, env=own_environment(self.repository), to=to)).out


def _counts(numstat: bytes) -> list[tuple[bytes, tuple[int | None, int | None]]]:
    """``added TAB deleted TAB path``, with a dash for what is binary."""
    found: list[tuple[bytes, tuple[int | None, int | None]]] = []
    for entry in numstat.split(b"\0"):
        if entry:
            added, deleted, path = entry.split(b"\t", 2)
            found.append((path, (None, None) if added == b"-" else (int(added), int(deleted))))
    return found


def _change(about: str, path: str, counts: Mapping[bytes, tuple[int | None, int | None]]) -> Change:
    old_mode, new_mode, old_id, new_id, letter = about.removeprefix(":").split()
    added, deleted = counts.get(os.fsencode(path), (0, 0))
    is_old, is_new = old_mode != _ABSENT, new_mode != _ABSENT
    return Change(
        path=path,
        status=_KINDS.get(letter[0], "modified"),
        old_mode=old_mode if is_old else None,
        new_mode=new_mode if is_new else None,
        old_id=old_id if is_old else None,
        new_id=new_id if is_new else None,
        added=added,
        deleted=deleted,
    )
