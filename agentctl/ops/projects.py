"""The project directory of a session: a directory of this host that its agent works on, in one of three ways.

``mount``      the directory itself, writable. The default wherever a sandbox can have it: it is what people expect of
               an agent that runs next to their editor, and what ``unix_local`` does anyway. Whoever runs code of the
               project afterwards, git included, trusts what the agent left there.
``copy``       a copy of it, kept with the session. Nothing of the directory changes until ``sessions pull``.
``worktree``   a git worktree of its last commit on a branch of its own, ``agentctl/<session>``. The checkout stays as
               it is; a container cannot write to the repository's own git directory (``project_worktrees``).

In a container it is seen at the same absolute path; where no such path can be made, at ``/workspace``. Agents keep a
conversation by its directory, so that is settled when the session is made, and never changes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.model import PROJECT_MODES
from agentctl.ops.project_place import ProjectPlace
from agentctl.ops.report import Report

if TYPE_CHECKING:
    from agentctl.compute import Compute
    from agentctl.model import Session, SessionSpec
    from agentctl.ops.app import App
    from agentctl.providers.base import Provider

Json = dict[str, Any]
WORKSPACE = "/workspace"
PART = "project"
"""Below ``agents/<session>`` of the volume: the copy, where a provider can put that anywhere in a sandbox."""

_SYSTEM = "bin boot dev etc lib lib32 lib64 libx32 proc root run sbin sys usr opt/agentctl var/run home/agent"
_HIDES = "home opt tmp var srv mnt media Users private data volumes"
"""What lies right there in an image must not vanish behind a project."""

_TRUST = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
"""In a container the project's files belong to a user of the host, and git would refuse to work there."""


def placed(app: App, spec: SessionSpec) -> SessionSpec:
    """The spec with its project's way, path and target in full, and a cwd in it. Nothing is made. Raise ``UsageError``
    or ``Unsupported``."""
    if spec.project is None:
        return spec
    if spec.sandbox is not None:
        raise errors.Unsupported(
            "--project cannot go with --sandbox: what a sandbox has is settled when it is created.",
            hint="Bring files in by --copy, or leave --sandbox out.",
        )
    provider = app.provider(spec.provider)
    given = _directory(spec.project["path"])
    mode = spec.project.get("mode") or default_mode(provider)
    _check_mode(provider, mode)
    path = top_of(given) if mode == "worktree" else given
    inside = given.relative_to(path)
    project: Json = {"path": str(path), "mode": mode, "target": _target(provider, spec.project.get("target"), path)}
    if mode == "copy" and spec.project.get("exclude"):
        project["exclude"] = list(spec.project["exclude"])
    cwd = spec.cwd or str(PurePosixPath(project["target"] or path) / inside)
    if project["target"] is None and mode != "mount" and not Path(cwd).absolute().is_relative_to(path):
        raise errors.UsageError(f"--cwd {cwd} is not in the project {path}.", hint="Leave --cwd out.")
    env = {**_TRUST, **spec.env} if project["target"] and mode != "copy" and not _TRUST.keys() & spec.env else spec.env
    return replace(spec, project=project, cwd=cwd, env=env)


def _directory(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.is_dir():
        raise errors.UsageError(f"--project {text} is not a directory.")
    return path.resolve()


def default_mode(provider: Provider) -> str:
    return "mount" if _can_mount(provider) else "copy"


def _can_mount(provider: Provider) -> bool:
    from agentctl.providers.lookup import COMPUTE

    sees_host = provider.capabilities.layout is None
    return sees_host or (provider.capabilities.local_volumes and "mounts" in COMPUTE.get(provider.name, ()))


def _check_mode(provider: Provider, mode: str) -> None:
    if mode not in PROJECT_MODES:
        raise errors.UsageError(f"--project-mode {mode!r} is none of {', '.join(PROJECT_MODES)}.")
    if mode != "copy" and not _can_mount(provider):
        raise errors.Unsupported(
            f"The sandboxes of {provider.name} are made on another machine, which has no files of this one.",
            hint="Use --project-mode copy, and bring results back with: agentctl sessions pull",
        )
    if mode == "worktree" and provider.capabilities.layout is not None:
        from agentctl.ops.project_worktrees import check_user

        check_user()


def top_of(path: Path) -> Path:
    """The top of the git checkout that the directory lies in. Raise ``UsageError`` where there is none."""
    for place in (path, *path.parents):
        if (place / ".git").exists():
            return place
    raise errors.UsageError(
        f"{path} is not in a git repository, which --project-mode worktree needs.", hint="Use --project-mode copy."
    )


def _target(provider: Provider, wanted: str | None, path: Path) -> str | None:
    """Where a sandbox with files of its own has the project; None where it sees the host's. Raise ``UsageError``."""
    if provider.capabilities.layout is None:
        if wanted is not None:
            raise errors.Unsupported(
                f"The provider {provider.name} sees this machine's files as they are.",
                hint="Leave --project-target out.",
            )
        return None
    if wanted is not None:
        if not is_possible(wanted):
            raise errors.UsageError(
                f"--project-target {wanted} cannot be a directory for a project in a sandbox.",
                hint=f"Give an absolute path that is none of the system's, such as {WORKSPACE}.",
            )
        return str(PurePosixPath(wanted))
    if not provider.capabilities.parts:
        return f"{provider.capabilities.default_cwd}/{path.name or PART}"
    return str(path) if is_possible(str(path)) else WORKSPACE


def is_possible(path: str) -> bool:
    """Whether a container can have a mount there that its agent reaches, and that hides nothing of its system."""
    parts = PurePosixPath(path).parts
    if not path.startswith("/") or ".." in parts or "\0" in path or len(parts) < 2:
        return False
    inner = "/".join(parts[1:])
    own = any(f"{inner}/".startswith(f"{name}/") or f"{name}/".startswith(f"{inner}/") for name in _SYSTEM.split())
    return not own and inner not in _HIDES.split()


def settled(app: App, spec: SessionSpec, session_id: str) -> SessionSpec:
    """The spec with directories that only the session itself has: its own copy or worktree on this host."""
    mapped = _own_tree(app, spec, session_id)
    if mapped is None:
        return spec
    old, new = mapped
    return replace(spec, cwd=_moved(spec.cwd, old, new), root=_moved(spec.root, old, new))


def as_asked(app: App, session: Session) -> SessionSpec:
    """The session's spec as it was before ``settled``, to be compared with another."""
    mapped = _own_tree(app, session.spec, session.id)
    if mapped is None:
        return session.spec
    old, new = mapped
    return replace(session.spec, cwd=_moved(session.spec.cwd, new, old), root=_moved(session.spec.root, new, old))


def _own_tree(app: App, spec: SessionSpec, session_id: str) -> tuple[Path, Path] | None:
    if spec.project is None or spec.project["mode"] == "mount" or spec.project["target"] is not None:
        return None
    return Path(spec.project["path"]), ProjectPlace(app, session_id).tree(spec.project)


def _moved(path: str | None, old: Path, new: Path) -> str | None:
    if path is None or not Path(path).is_relative_to(old):
        return path
    return str(new / Path(path).relative_to(old))


def host_directory(app: App, session: Session) -> Path | None:
    """Where this host has the files that the session works on; None for a copy that only the provider reaches."""
    project = session.spec.project
    assert project is not None
    if project["mode"] == "mount":
        return Path(project["path"])
    if project["mode"] == "copy" and project["target"] is not None:
        return None
    return ProjectPlace(app, session.id).tree(project)


def volume_directory(app: App, session: Session) -> str:
    """Where its volume has the copy of the project that ``host_directory`` does not tell."""
    project = session.spec.project
    assert project is not None
    capabilities = app.provider(session.spec.provider).capabilities
    if capabilities.parts:
        return f"agents/{session.id}/{PART}"
    workspace = session.spec.workspace
    home = f"workspaces/{workspace}" if workspace else f"agents/{session.id}/home"
    return f"{home}/{PurePosixPath(project['target']).relative_to(capabilities.default_cwd or '/')}"


def machine(app: App, session: Session) -> tuple[Compute, dict[str, str]]:
    """The compute of the session's sandbox with the mounts of its project, and its ``SandboxSpec.parts``. Raise
    ``UsageError`` when the project is gone."""
    from agentctl.compute import Mount

    compute, project = session.spec.compute, session.spec.project
    if project is None or project["target"] is None:
        return compute, {}
    directory = host_directory(app, session)
    if directory is None:
        parts = app.provider(session.spec.provider).capabilities.parts
        return compute, {volume_directory(app, session): project["target"]} if parts else {}
    if not directory.is_dir():
        raise errors.UsageError(
            f"The project of session {session.name}, {directory}, is gone.", hint="Put it back, or delete the session."
        )
    mounts = [Mount(source=str(directory), target=project["target"], writable=True)]
    if project["mode"] == "worktree":
        from agentctl.ops.project_worktrees import git_mounts

        mounts += git_mounts(ProjectPlace(app, session.id), project["target"])
    return replace(compute, mounts=(*compute.mounts, *mounts)), {}


async def prepare(app: App, session: Session, report: Report) -> None:
    """Make what the session's project needs on this host, and record how it is now. On any error ``forget`` takes it
    back."""
    project = session.spec.project
    if project is None:
        return
    from agentctl.ops import project_base

    place = ProjectPlace(app, session.id)
    place.make()
    _tell_of_gitfile(project, report)
    if project["mode"] == "worktree":
        from agentctl.ops import project_worktrees

        await project_worktrees.make(place, session, for_container=project["target"] is not None, report=report)
    if project["mode"] == "copy":
        if project["target"] is None:
            report(f"Copying {project['path']} …")
            await project_base.copy_here(place, project)
        return
    directory = host_directory(app, session)
    assert directory is not None
    await project_base.record(place, directory, Path(project["path"]))


def _tell_of_gitfile(project: Json, report: Report) -> None:
    if project["mode"] == "worktree" or not Path(project["path"], ".git").is_file():
        return
    if project["mode"] == "copy":
        report(f"{project['path']} is a worktree or submodule of another repository: its copy is without git.")
    elif project["target"] is not None:
        report(
            f"{project['path']} is a worktree or submodule of a repository that the sandbox has not: git fails there."
        )


async def forget(app: App, session: Session, *, discard: bool = False) -> None:
    """Remove what ``prepare`` and the copies made on this host; a worktree's branch stays where commits would be lost
    with it, unless ``discard``. The project itself is left alone."""
    if session.spec.project is None and not session.spec.copies:
        return
    place = ProjectPlace(app, session.id)
    if session.spec.project and session.spec.project["mode"] == "worktree":
        from agentctl.ops import project_worktrees

        await project_worktrees.remove(place, discard=discard)
    place.remove()
