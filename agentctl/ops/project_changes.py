"""What a session changed in its project: ``sessions diff``, and what ``sessions pull`` brings back."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING, Any

from agentctl import errors
from agentctl.ops import reach
from agentctl.ops.elsewhere import require_here
from agentctl.ops.project_base import files_at
from agentctl.ops.project_place import ProjectPlace, project_of
from agentctl.ops.project_rules import uncounted
from agentctl.ops.project_snapshots import Comparison, beside, paths_of, take
from agentctl.ops.project_worktrees import lend
from agentctl.ops.projects import host_directory, volume_directory

if TYPE_CHECKING:
    from agentctl.model import Session
    from agentctl.ops.app import App

Json = dict[str, Any]
MAX_JSON_BYTES = 64 * 1024 * 1024


@asynccontextmanager
async def compared(app: App, session: Session, paths: Sequence[str] = ()) -> AsyncIterator[Comparison]:
    """The project as it is now against how it was, whether its sandbox lives or not. Raise ``UsageError`` for a session
    without a project, ``PathNotFound`` when its files are gone, and what reaching them raises."""
    require_here(app, session)
    project_of(session)
    place = ProjectPlace(app, session.id)
    kept = place.read()
    if kept.base is None:
        raise errors.Conflict(
            f"The project of session {session.name} was not copied into its sandbox yet.",
            hint=f"Bring it up with: agentctl sessions resume {session.name}",
        )
    keep = await paths_of(place.base, kept.base)
    async with beside(place.base) as now:
        if kept.repository is not None:
            lend(now, place.base, place)
        async with _files_now(app, session, keep) as chunks:
            tree = await take(now, chunks, keep=keep, links=kept.links)
        yield Comparison(now, kept.base, tree, list(_relative(session, paths)))


def _relative(session: Session, paths: Iterable[str]) -> Iterable[str]:
    """Paths from the project's top on; one that is absolute is what the agent, or the host, calls it."""
    project = project_of(session)
    for path in paths:
        for top in (project["target"], project["path"], session.spec.cwd):
            if top and path.startswith(f"{top}/"):
                path = path[len(top) + 1 :]
        if path.startswith("/") or ".." in path.split("/"):
            raise errors.UsageError(f"{path} is not in the project {project['path']}.")
        yield path.rstrip("/") or "."


@asynccontextmanager
async def _files_now(app: App, session: Session, keep: frozenset[str]) -> AsyncIterator[AsyncIterator[bytes]]:
    directory = host_directory(app, session)
    if directory is not None:
        async with files_at(directory).pack(".", leave_out=uncounted(str(directory), keep)) as chunks:
            yield chunks
        return
    client = await reach.supervisor_client(app, session)
    if client is not None:
        from agentctl.supervisor_client.files import FilesClient

        async with client, FilesClient(client, project_of(session)["target"]).pack(".") as chunks:
            yield chunks
        return
    volume = app.store.volume(session.spec.provider, session.spec.volume)
    if volume is None:
        raise errors.VolumeNotFound(f"The volume {session.spec.volume}, which has the session's copy, is gone.")
    from agentctl.ops.volume_files import files_of

    async with files_of(app, volume) as files, files.pack(volume_directory(app, session)) as chunks:
        yield chunks


async def diff(app: App, ref: str, paths: Sequence[str] = (), to: IO[bytes] | None = None) -> Json:
    """``{"session", "path", "mode", "files": [Change], "additions", "deletions"}``; ``to`` takes the patch, which ``git
    apply`` takes. Raise as ``compared``."""
    session = app.store.session(ref)
    async with compared(app, session, paths) as comparison:
        changes = await comparison.changes()
        if to is not None:
            await comparison.patch(to)
    project = project_of(session)
    return {
        "session": session.name,
        "path": project["path"],
        "mode": project["mode"],
        "files": [change.to_json() for change in changes],
        "additions": sum(change.added or 0 for change in changes),
        "deletions": sum(change.deleted or 0 for change in changes),
    }


async def diff_as_json(app: App, ref: str, paths: Sequence[str] = ()) -> Json:
    """The same with ``patch``, and its ``encoding``: utf-8, or base64 for one that is not. Raise ``BodyTooLarge``."""
    with tempfile.TemporaryFile() as file:
        found = await diff(app, ref, paths, file)
        if file.tell() > MAX_JSON_BYTES:
            raise errors.BodyTooLarge(
                f"The patch has {file.tell()} bytes, too much for JSON.", hint="Leave out --json, or name some paths."
            )
        file.seek(0)
        data = file.read()
    try:
        return {**found, "encoding": "utf-8", "patch": data.decode()}
    except UnicodeDecodeError:
        return {**found, "encoding": "base64", "patch": base64.b64encode(data).decode()}


async def unpulled(app: App, session: Session) -> list[str]:
    """The files that a session changed in its own copy or worktree, and that nobody has brought back since; none for a
    project that was mounted. Raise as ``compared``."""
    project = session.spec.project
    place = ProjectPlace(app, session.id)
    if project is None or project["mode"] == "mount" or place.read().base is None:
        return []
    async with compared(app, session) as comparison:
        if comparison.new == place.read().pulled:
            return []
        return [change.path for change in await comparison.changes()]


async def require_pulled(app: App, session: Session) -> None:
    """Raise ``Conflict`` naming what would be lost with a worktree."""
    if session.spec.project is None or session.spec.project["mode"] != "worktree":
        return
    try:
        lost = await unpulled(app, session)
    except errors.PathNotFound:
        return  # somebody removed it
    if lost:
        raise unpulled_error(session, lost)


def unpulled_error(session: Session, paths: Sequence[str]) -> errors.Conflict:
    return errors.Conflict(
        f"Session {session.name} has changes that nobody has brought back: {listed(paths)}.",
        hint=f"Bring them back with: agentctl sessions pull {session.name}."
        f" Or lose them with: agentctl sessions delete --force {session.name}",
        details={"session": session.id, "files": list(paths)},
    )


def listed(paths: Sequence[str], most: int = 8) -> str:
    """A few of them, as text."""
    from agentctl.supervisor.files.tree import text_of

    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(text_of(path) for path in paths[:most]) + more
