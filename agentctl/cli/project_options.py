"""Options about files of this machine that a new session gets: a project directory, copies, and leave for mounts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from agentctl.cli import values
from agentctl.cli.lazy import options
from agentctl.cli.options import PROJECT_MODES
from agentctl.errors import UsageError

Json = dict[str, Any]
_PANEL = "Project options"


def _mode(text: str) -> str:
    return values.choice(text, PROJECT_MODES, "--project-mode")


Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Let it see / or your whole HOME, if asked to.", rich_help_panel=_PANEL)
]


@options
class ProjectOptions:
    """What a session gets of this machine's files; ``project_fields`` reads it."""

    project: Annotated[
        str | None,
        typer.Option(
            "--project", metavar="DIR", help="The directory that the agent is to work on.", rich_help_panel=_PANEL
        ),
    ] = None
    project_mode: Annotated[
        str | None,
        typer.Option(
            "--project-mode",
            metavar="MODE",
            parser=_mode,
            help="How: mount (itself; default), copy, or worktree (a git branch of its own).",
            rich_help_panel=_PANEL,
        ),
    ] = None
    project_target: Annotated[
        str | None,
        typer.Option(
            "--project-target",
            metavar="PATH",
            help="Where a container has it (default: the same path, else /workspace).",
            rich_help_panel=_PANEL,
        ),
    ] = None
    copy: Annotated[
        list[str] | None,
        typer.Option(
            "--copy",
            metavar="SRC:DST",
            help="Copy a file or directory in before the agent starts; DST begins in its HOME. Repeatable.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    copy_exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--copy-exclude",
            metavar="PATTERN",
            help="Leave out of copies, as a line of .gitignore would. Repeatable.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    yes: Yes = False


def project_fields(given: ProjectOptions) -> Json:
    """Fields of ``SessionSpec``, not yet in full. Raise ``UsageError``."""
    if given.project is None and (given.project_mode or given.project_target):
        option = "--project-mode" if given.project_mode else "--project-target"
        raise UsageError(f"{option} says nothing without --project.", hint="Add --project DIR.")
    exclude = list(given.copy_exclude or ())
    if exclude and not given.copy and given.project_mode != "copy":
        raise UsageError("--copy-exclude says nothing without a copy.", hint="Add --copy or --project-mode copy.")
    copies = tuple({**copy, "exclude": [*copy["exclude"], *exclude]} for copy in copies_of(given.copy or ()))
    if given.project is None:
        return {"copies": copies}
    project = {"path": given.project, "mode": given.project_mode, "target": given.project_target, "exclude": exclude}
    return {"copies": copies, "project": project}


def copies_of(texts: Iterable[str]) -> list[Json]:
    """``SRC:DST``, or the JSON object that a spec file makes of it. Raise ``UsageError``."""
    return [_copy(text) for text in texts]


def _copy(text: str) -> Json:
    if text.startswith("{"):
        return {"exclude": [], **json.loads(text)}
    source, _, target = text.rpartition(":")
    if not source or not target:
        raise UsageError(f"--copy {text!r} is not SRC:DST.", hint="DST is a path in the agent's HOME.")
    return {"source": source, "target": target, "exclude": []}
