"""Directories of this host that a sandbox is to see: checked before anything is made.

Never: this program's own state, with every session's secrets, and the socket of a container engine, which gives its
holder the whole machine. Only when it is said twice (``--yes``): ``/``, the user's HOME, and what these lie in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from agentctl import errors
from agentctl.ops.project_worktrees import AGENT_USER
from agentctl.ops.report import Report

if TYPE_CHECKING:
    from agentctl.compute import Mount
    from agentctl.model import SessionSpec
    from agentctl.ops.app import App

_ENGINES = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock")
_ENGINE_PLACES = ("/run", "/var/run")
_OWN = ("/run/agentctl", "/opt/agentctl", "/proc", "/sys", "/dev")
"""Places of a sandbox that are its supervisor's, or the kernel's."""


def check(app: App, spec: SessionSpec, *, sure: bool, report: Report) -> None:
    """Raise ``UsageError`` for a mount that cannot or must not be, and, unless ``sure``, for one that shows too much.
    Tell of a writable one where the agent could not write."""
    project = spec.project
    taken = [project["target"]] if project and project["target"] else []
    for mount in spec.compute.mounts:
        _check_source(app, Path(mount.source), "--mount", sure)
        _check_target(mount, taken)
        taken.append(mount.target)
        if mount.writable:
            _tell_owner(Path(mount.source), "--mount", report)
    if project is not None:
        _check_source(app, Path(project["path"]), "--project", sure)
        if project["mode"] == "mount" and project["target"] is not None:
            _tell_owner(Path(project["path"]), "--project", report)


def _check_source(app: App, source: Path, option: str, sure: bool) -> None:
    if not source.exists():
        raise errors.UsageError(f"{option} {source}: there is no such file or directory.")
    real = source.resolve()
    if is_engine(real, app.environ.get("DOCKER_HOST", "")):
        raise errors.UsageError(
            f"{option} {source}: who has the socket of a container engine has this whole machine.",
            hint="A sandbox never gets it. Services beside it are what the `services` of a spec file are for.",
        )
    state = app.paths.root.resolve()
    if real.is_relative_to(state) or source.is_relative_to(app.paths.root):
        raise errors.UsageError(
            f"{option} {source} is agentctl's own state, with the secrets of all sessions.",
            hint="Files of volumes are reached by: agentctl volumes",
        )
    what = _too_much(real, app.user_home.resolve(), state)
    if what and not sure:
        raise errors.UsageError(
            f"{option} {source} shows the sandbox {what}.",
            hint="Name a smaller directory, or add --yes if you mean it.",
        )


def _too_much(real: Path, home: Path, state: Path) -> str:
    if real == Path("/"):
        return "every file of this machine"
    if home.is_relative_to(real):
        return "your whole HOME, keys and logins included"
    return "agentctl's own state" if state.is_relative_to(real) else ""


def is_engine(real: Path, docker_host: str) -> bool:
    """Whether it is the socket of a container engine, or the directory in which those are."""
    if str(real) in {os.path.realpath(place) for place in _ENGINE_PLACES}:
        return True
    try:
        is_socket = stat.S_ISSOCK(real.stat().st_mode)
    except OSError:
        return False
    named = docker_host.removeprefix("unix://")
    return is_socket and (real.name in _ENGINES or (named != docker_host and os.path.realpath(named) == str(real)))


def _check_target(mount: Mount, taken: Iterable[str]) -> None:
    target = PurePosixPath(mount.target)
    own = any(target.is_relative_to(place) or PurePosixPath(place).is_relative_to(target) for place in _OWN)
    if own or ".." in target.parts:
        raise errors.UsageError(f"--mount {mount.source}:{mount.target}: nothing can be mounted there.")
    if target in [PurePosixPath(other) for other in taken]:
        raise errors.UsageError(f"--mount: two things cannot both be at {mount.target}.")


def _tell_owner(source: Path, option: str, report: Report) -> None:
    """The agent is user 1000 in its container, whoever made the files out here."""
    about = source.stat()
    if about.st_uid == AGENT_USER or about.st_mode & stat.S_IWOTH:
        return
    if about.st_gid == AGENT_USER and about.st_mode & stat.S_IWGRP:
        return
    instead = "use --project-mode copy" if option == "--project" else "copy it in by --copy"
    report(
        f"{option} {source} belongs to user {about.st_uid}, and the agent runs as user {AGENT_USER}: where the engine"
        f" does not translate users, it may not write there. Let user {AGENT_USER} write to it, or {instead}."
    )
