"""How a project was when its session was made: what its changes are told against."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agentctl.ops.project_git import git, make_repository, user_environment
from agentctl.ops.project_rules import LeaveOut, excluded, uncounted
from agentctl.ops.project_snapshots import Taker, take, taking, tree_of
from agentctl.providers.trees import remove_tree
from agentctl.supervisor.files.space import FileSpace
from agentctl.supervisor.files.tree import Files

if TYPE_CHECKING:
    from agentctl.ops.project_place import ProjectPlace

Json = dict[str, Any]


class Unpacking(Protocol):
    """The part of ``Files`` that takes a copy."""

    async def unpack(self, path: str, chunks: AsyncIterator[bytes]) -> Json: ...


def files_at(directory: Path) -> Files:
    """The files of a directory of this host; no path and no link leads out of it."""
    return Files(FileSpace(str(directory), root=str(directory)))


async def record(place: ProjectPlace, directory: Path, checkout: Path) -> None:
    """Make what is in ``directory`` now the base. ``checkout`` is asked which of the files git has."""
    keep = await tracked(checkout)
    _fresh(place)
    links = place.read().links
    async with files_at(directory).pack(".", leave_out=uncounted(str(directory), keep)) as chunks:
        place.change(base=await take(place.base, chunks, keep=keep, links=links))


async def copy_here(place: ProjectPlace, project: Json) -> None:
    """Copy the project into the session's own place on this host, and make that the base."""
    tree = place.tree(project)
    tree.mkdir(parents=True)
    await copy_into(place, project, files_at(tree), ".")


async def copy_into(place: ProjectPlace, project: Json, files: Unpacking, target: str) -> None:
    """Copy the project to where it belongs. What went there is the base, even if somebody changes the files
    meanwhile."""
    source = Path(project["path"])
    keep = await tracked(source)
    _fresh(place)
    leave_out = _not_copied(source, project.get("exclude", ()))
    packed, taken = files_at(source).pack(".", leave_out=leave_out), taking(place.base, keep=keep, links={})
    async with packed as chunks, taken as taker:
        await files.unpack(target, _seen(chunks, taker))
    place.change(base=await tree_of(place.base))


def _not_copied(source: Path, exclude: Sequence[str]) -> LeaveOut:
    """Also a ``.git`` that is a file: it leads to a repository that is not copied, and must not be written to."""
    leave_out, is_file = excluded(str(source), exclude), (source / ".git").is_file()
    return lambda path: (is_file and path == ".git") or leave_out(path)


async def _seen(chunks: AsyncIterator[bytes], taker: Taker) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        await taker.feed(chunk)
        yield chunk


def _fresh(place: ProjectPlace) -> None:
    place.make()
    remove_tree(place.base)
    make_repository(place.base)


async def tracked(checkout: Path) -> frozenset[str]:
    """The files that git has there, ignored or not; none where it is no repository, or not one of the user's."""
    ran = await git("ls-files", "-z", env=user_environment(), cwd=checkout, may_fail=True)
    return frozenset(os.fsdecode(path) for path in ran.out.split(b"\0") if path) if ran.code == 0 else frozenset()
