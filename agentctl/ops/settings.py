"""The settings as a user sees and changes them: each with where it comes from, and who may set it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import config_files
from agentctl.config import READERS, unknown
from agentctl.errors import NotFound, UsageError

if TYPE_CHECKING:
    from agentctl.ops.app import App

Json = dict[str, Any]
HIDDEN = "(set, and not shown: it may hold a password)"


def listing(app: App) -> list[Json]:
    """``{"key", "value", "origin"}`` of every setting; a database's password is never part of it."""
    return [get(app, key) for key in READERS]


def get(app: App, key: str) -> Json:
    """Raise ``UsageError`` for a key that is none, with the nearest."""
    _require(key)
    value = getattr(app.config, key)
    if key == "database_url" and value is not None:
        value = HIDDEN
    return {"key": key, "value": value, "origin": app.config.origin_of(key)}


def change(app: App, key: str, value: str | None) -> Path:
    """Write a setting into the user's file, or take it out (None); returns the file. Nothing is written that could not
    be read again. Raise ``UsageError``, and ``ProviderNotFound`` for a provider that there is not."""
    _require(key)
    if value is not None:
        READERS[key](value, key, "config set")
    if key == "provider" and value is not None:
        from agentctl.providers.lookup import require_provider

        require_provider(value)
    path = config_files.config_path(app.environ)
    try:
        before = config_files.read(path)
    except (FileNotFoundError, NotADirectoryError):
        before = ""
    after = config_files.with_setting(before, key, value)
    if config_files.parse(after, path).get(key) != value:
        raise UsageError(
            f"{path} sets {key} in a way that cannot be changed line by line.", hint="Change it with an editor."
        )
    if after != before:
        config_files.write_atomically(path, after)
    return path


def paths(app: App) -> Json:
    """``{"user", "project", "trusted"}``: the files, the project's or None, and whether it is trusted."""
    project = config_files.project_path(Path.cwd())
    trusted = project is not None and config_files.is_trusted(config_files.read(project), project, app.environ)
    return {
        "user": str(config_files.config_path(app.environ)),
        "project": None if project is None else str(project),
        "trusted": trusted if project else None,
    }


def trust(app: App, path: Path | None, *, trusted: bool) -> tuple[Path, str]:
    """Let all settings of a project file count as long as it stays as it is, or no longer. Returns it and its text.
    Raise ``NotFound`` when there is none here or above."""
    found = config_files.project_path(Path.cwd()) if path is None else path.absolute()
    if found is None or not found.is_file():
        raise NotFound(f"There is no {config_files.PROJECT_FILE} here or above.", hint="Name the file.")
    text = config_files.read(found)
    config_files.trust(text, found, app.environ, trusted=trusted)
    return found, text


def _require(key: str) -> None:
    if key not in READERS:
        raise unknown(key, "config")
