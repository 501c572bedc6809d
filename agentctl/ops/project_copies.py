"""What is copied into a new session's sandbox, once, before its agent starts: ``--copy``, and a project's copy.

``SOURCE:TARGET``: a file becomes ``TARGET``, or goes into it where that ends in a slash; a directory becomes ``TARGET``
and is merged with what is there. A relative target begins in HOME, as ``~/`` does. ``exclude`` are lines of a
``.gitignore``, as if it lay in the source. Links stay links, owners and times are not kept.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.ops import reach
from agentctl.ops.project_base import copy_into, files_at
from agentctl.ops.project_place import ProjectPlace
from agentctl.ops.project_rules import excluded
from agentctl.ops.report import Report
from agentctl.supervisor.files.space import FileSpace
from agentctl.supervisor.files.tree import Files

if TYPE_CHECKING:
    from agentctl.model import Session, SessionSpec
    from agentctl.ops.app import App
    from agentctl.supervisor_client import SupervisorClient
    from agentctl.supervisor_client.files import FilesClient

Json = dict[str, Any]
_SAY_AFTER_S = 1.0
_SAY_EVERY_S = 3.0


def checked(app: App, spec: SessionSpec, report: Report) -> tuple[Json, ...]:
    """The copies of a new session with their paths in full. Nothing is made. Raise ``UsageError``."""
    home = app.provider(spec.provider).capabilities.default_cwd
    return tuple(_checked(copy, home, report) for copy in spec.copies)


def _checked(copy: Json, home: str | None, report: Report) -> Json:
    source = Path(copy["source"]).expanduser().absolute()
    if not source.is_file() and not source.is_dir():
        raise errors.UsageError(f"--copy {copy['source']}: there is no such file or directory.")
    target = copy["target"].removeprefix("~/")
    if target in ("", "~") or ".." in PurePosixPath(target).parts or "\0" in target:
        raise errors.UsageError(f"--copy {source}:{copy['target']}: the target must be a path without `..`.")
    if target.startswith("/") and home is None:
        raise errors.UsageError(
            f"--copy {source}:{target}: this provider has only this machine's files, and copies do not go over those.",
            hint="Give a path in the agent's HOME, as in data/input.csv.",
        )
    if target.startswith("/") and not PurePosixPath(target).is_relative_to(home or "/"):
        report(f"{target} is not in the agent's HOME: what is copied there is gone when the sandbox is made anew.")
    return {"source": str(source), "target": target, "exclude": list(copy.get("exclude") or ())}


def is_due(app: App, session: Session) -> bool:
    """Whether something is to be copied into the session's sandbox, and was not yet."""
    spec = session.spec
    if session.status != "new" or not (spec.copies or _has_copied_project(spec)):
        return False
    return not ProjectPlace(app, session.id).has_arrived


def _has_copied_project(spec: SessionSpec) -> bool:
    return spec.project is not None and spec.project["mode"] == "copy" and spec.project["target"] is not None


async def bring(app: App, session: Session, client: SupervisorClient, report: Report) -> None:
    """Copy all that is due into the session's sandbox, which has no agent yet; it may be done again after a failure.
    Raise what the file API raises."""
    from agentctl.supervisor_client.files import FilesClient

    if not is_due(app, session):
        return
    async with reach.lease_of(app, session.id):
        if not is_due(app, session):  # another command was faster
            return
        for copy in session.spec.copies:
            report(f"Copying {copy['source']} …")
            await _copy(copy, FilesClient(client, ""), report)
        if _has_copied_project(session.spec):
            assert session.spec.project is not None
            report(f"Copying the project {session.spec.project['path']} …")
            files = _Watched(FilesClient(client, ""), report)
            await copy_into(ProjectPlace(app, session.id), session.spec.project, files, session.spec.project["target"])
        ProjectPlace(app, session.id).mark_arrived()


async def _copy(copy: Json, files: FilesClient, report: Report) -> None:
    source, target = Path(copy["source"]), copy["target"]
    if _is_directory(source):
        async with files_at(source).pack(".", leave_out=excluded(str(source), copy["exclude"])) as chunks:
            await _Watched(files, report).unpack(target.rstrip("/"), chunks)
        return
    if target.endswith("/"):
        target += source.name
    async with Files(FileSpace("/")).read(str(source)) as reading:
        chunks = _told(reading.chunks, report)
        await files.write(target, chunks, mode=reading.mode, size=reading.size)


def _is_directory(path: Path) -> bool:
    return path.is_dir()


class _Watched:
    """Unpacks, and tells how far it is when that takes a while."""

    def __init__(self, files: FilesClient, report: Report) -> None:
        self._files = files
        self._report = report

    async def unpack(self, path: str, chunks: AsyncIterator[bytes]) -> Json:
        return await self._files.unpack(path, _told(chunks, self._report))


async def _told(chunks: AsyncIterator[bytes], report: Report) -> AsyncIterator[bytes]:
    done, at = 0, time.monotonic() + _SAY_AFTER_S
    async for chunk in chunks:
        yield chunk
        done += len(chunk)
        if time.monotonic() >= at:
            report(f"Copied {done / 1e6:.0f} MB …")
            at = time.monotonic() + _SAY_EVERY_S
