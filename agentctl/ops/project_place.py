"""What this host keeps of a session's project, in ``<state>/projects/<session>/``.

``base.git``       the project as it was when the session was made (``project_snapshots``)
``project.json``   what was made where (``Kept``)
``tree/<name>/``   the session's own copy or worktree, where it lies on this host
``sandbox.git/``   the git directory that a worktree has in a container (``project_worktrees``)
``arrived``        there once everything that is copied into the sandbox is there
"""

from __future__ import annotations

import json
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl.errors import UsageError
from agentctl.frozen import frozen
from agentctl.providers.trees import make_private_directory, remove_tree, write_private

if TYPE_CHECKING:
    from agentctl.model import Session
    from agentctl.ops.app import App

Json = dict[str, Any]


@frozen
class Kept:
    """``base`` is the tree that changes are told against, None while nothing was copied yet; ``links`` its submodules.
    ``pulled`` is the tree that was brought back last. Of a worktree: its ``branch``, the commit that it ``start``ed
    from, and the ``repository`` it belongs to (git's common directory)."""

    base: str | None = None
    links: dict[str, str] = field(default_factory=dict)
    pulled: str | None = None
    branch: str | None = None
    start: str | None = None
    repository: str | None = None


class ProjectPlace:
    """The directory of one session's project."""

    def __init__(self, app: App, session_id: str) -> None:
        self.root = app.paths.projects / session_id

    @property
    def base(self) -> Path:
        return self.root / "base.git"

    @property
    def sandbox_git(self) -> Path:
        return self.root / "sandbox.git"

    @property
    def sandbox_gitfile(self) -> Path:
        return self.root / "gitfile"

    @property
    def sandbox_alternates(self) -> Path:
        return self.root / "alternates"

    @property
    def trees(self) -> Path:
        return self.root / "tree"

    def tree(self, project: Json) -> Path:
        return self.trees / (Path(project["path"]).name or "root")

    def make(self) -> None:
        make_private_directory(self.root)

    def read(self) -> Kept:
        try:
            return Kept(**json.loads((self.root / "project.json").read_text()))
        except FileNotFoundError:
            return Kept()

    def write(self, kept: Kept) -> None:
        write_private(self.root / "project.json", json.dumps(asdict(kept)))

    def change(self, **fields: Any) -> Kept:
        kept = replace(self.read(), **fields)
        self.write(kept)
        return kept

    @property
    def has_arrived(self) -> bool:
        return (self.root / "arrived").exists()

    def mark_arrived(self) -> None:
        self.make()
        write_private(self.root / "arrived", "")

    def remove(self) -> None:
        remove_tree(self.root)


def project_of(session: Session) -> Json:
    """Raise ``UsageError`` for a session that has none."""
    if session.spec.project is None:
        raise _none(session)
    return session.spec.project


def _none(session: Session) -> UsageError:
    return UsageError(
        f"Session {session.name} has no project directory, so nobody knows what was there before.",
        hint="Give one when a session is created: --project DIR. Single files come by: agentctl sessions files pull",
    )
