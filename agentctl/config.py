"""What a user set once instead of typing it each time: flags over environment over files over defaults.

=============  =====================  ==============================================================================
key            variable               meaning
=============  =====================  ==============================================================================
agent          AGENTCTL_AGENT         the agent of a new session
model          AGENTCTL_MODEL         its model
mode           AGENTCTL_MODE          its mode
provider       AGENTCTL_PROVIDER      where its sandbox runs (``unix_local``, ``docker``)
image          AGENTCTL_IMAGE         the image of its container, where the provider makes containers
permissions    AGENTCTL_PERMISSIONS   ``ask`` (the default), ``accept-edits``, ``allow`` or ``deny``
origin         AGENTCTL_ORIGIN        label of everything that this installation makes
timeout        AGENTCTL_TIMEOUT       deadline of a turn: seconds, or a time such as ``90s``, ``10m``, ``1h30m``
registry       AGENTCTL_REGISTRY      the npm registry that agents are installed from
database_url   AGENTCTL_DATABASE_URL  a Postgres database that several machines share, instead of the state directory's
=============  =====================  ==============================================================================

The user's file is ``$AGENTCTL_CONFIG``, else ``agentctl/config.toml`` in the user's configuration directory; a
project's, ``agentctl.toml`` in the current directory or above, goes before it (``config_files.py``). Both have
``key = value`` lines in TOML and ``[presets.NAME]`` tables of what a spec file holds, for ``--preset NAME``. A key that
is not in the table is an error, since a misspelt one would silently do nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, NamedTuple

from agentctl.config_files import HARMLESS, config_path, is_trusted, line_of, parse, project_path, read
from agentctl.errors import UsageError
from agentctl.frozen import frozen
from agentctl.model import PERMISSIONS, Permissions

DEFAULT = "default"
FLAG = "flag"
PRESETS = "presets"
Settings = dict[str, tuple[Any, str]]


class Preset(NamedTuple):
    """What a spec file would hold, from the table ``[presets.NAME]`` of the file ``path``."""

    keys: dict[str, Any]
    path: Path


@frozen
class Config:
    """The settings of one command. None where nobody set anything and there is no default."""

    agent: str | None = None
    model: str | None = None
    mode: str | None = None
    provider: str = "unix_local"
    image: str | None = None
    permissions: Permissions = "ask"
    origin: str | None = None
    timeout: float | None = None
    registry: str | None = None
    database_url: str | None = field(default=None, repr=False)
    _sources: Mapping[str, str] = field(default_factory=dict)
    _presets: Mapping[str, Preset] = field(default_factory=dict)
    _warnings: tuple[str, ...] = ()

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] = os.environ,
        flags: Mapping[str, Any] | None = None,
        directory: Path | None = None,
    ) -> Config:
        """Read the files and merge all sources; a flag that is None was not given, an empty variable is not set. The
        project is that of ``directory``; None is none.

        Raise ``UsageError`` that names the file and line, the variable or the flag at fault.
        """
        settings, presets = _of_user(environ)
        warnings: tuple[str, ...] = ()
        if directory is not None and (project := project_path(directory)) is not None:
            its, its_presets, warnings = _of_project(project, environ)
            settings |= its
            presets |= its_presets
        settings |= _of_environment(environ)
        settings |= {key: (value, FLAG) for key, value in (flags or {}).items() if value is not None}
        values = {key: READERS[key](value, key, source) for key, (value, source) in settings.items()}
        sources = {key: source for key, (_, source) in settings.items()}
        return cls(**values, _sources=sources, _presets=presets, _warnings=warnings)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found and does not count, to be told once."""
        return self._warnings

    @property
    def presets(self) -> Mapping[str, Preset]:
        """By name."""
        return self._presets

    def preset(self, name: str) -> Preset:
        """Raise ``UsageError`` with the nearest names."""
        if name not in self._presets:
            from difflib import get_close_matches

            near = get_close_matches(name, self._presets, n=1)
            known = f"There is: {', '.join(self._presets)}." if self._presets else "Add a table [presets.NAME] first."
            raise UsageError(
                f"There is no preset {name!r}.", hint=f"Did you mean {near[0]!r}? {known}" if near else known
            )
        return self._presets[name]

    def origin_of(self, key: str) -> str:
        """Where the value of ``key`` comes from: ``flag``, the variable's name, ``FILE:LINE`` or ``default``."""
        return self._sources.get(key, DEFAULT)


def duration_s(text: str) -> float:
    """``"90"``, ``"90s"``, ``"1.5m"`` or ``"1h30m"`` in seconds. Raise ``ValueError`` for all else, zero included."""
    number = r"(\d+(?:\.\d+)?)"
    matched = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text.strip())
    hours, minutes, seconds = (float(part or 0) for part in matched.groups()) if matched else (0.0, 0.0, 0.0)
    total = hours * 3600 + minutes * 60 + seconds
    if not total:
        raise ValueError(f"{text!r} is not a duration")
    return total


def _of_environment(environ: Mapping[str, str]) -> Settings:
    names = {key: f"AGENTCTL_{key.upper()}" for key in READERS}
    return {key: (environ[name], name) for key, name in names.items() if environ.get(name)}


def _of_user(environ: Mapping[str, str]) -> tuple[Settings, dict[str, Preset]]:
    path = config_path(environ)
    try:
        return _checked(read(path), path)
    except (FileNotFoundError, NotADirectoryError):
        if environ.get("AGENTCTL_CONFIG"):
            raise UsageError(f"There is no configuration file {path}.", hint="AGENTCTL_CONFIG names it.") from None
        return {}, {}


def _of_project(path: Path, environ: Mapping[str, str]) -> tuple[Settings, dict[str, Preset], tuple[str, ...]]:
    text = read(path)
    settings, presets = _checked(text, path)
    ignored = [key for key in settings if key not in HARMLESS] + [f"{PRESETS}.{name}" for name in presets]
    if not ignored or is_trusted(text, path, environ):
        return settings, presets, ()
    told = f"{path} is not trusted: {', '.join(ignored)} ignored. Read it, then: agentctl config trust"
    return {key: found for key, found in settings.items() if key in HARMLESS}, {}, (told,)


def _checked(text: str, path: Path) -> tuple[Settings, dict[str, Preset]]:
    settings: Settings = {}
    presets: dict[str, Preset] = {}
    for key, value in parse(text, path).items():
        place = f"{path}:{line_of(key, text)}"
        if key == PRESETS:
            presets = _presets(value, path, place)
        elif key not in READERS:
            raise unknown(key, place)
        else:
            settings[key] = (value, place)
    return settings, presets


def _presets(tables: Any, path: Path, place: str) -> dict[str, Preset]:
    if not isinstance(tables, dict) or not all(isinstance(keys, dict) for keys in tables.values()):
        raise UsageError(f"{place}: presets are tables.", hint="Write [presets.NAME], and keys of a spec below it.")
    return {name: Preset(keys, path) for name, keys in tables.items()}


def unknown(key: str, place: str) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(key, [*READERS, PRESETS], n=1)
    meant = f"Did you mean {near[0]!r}? " if near else ""
    return UsageError(
        f"{place}: there is no setting {key!r}.",
        hint=f"{meant}Settings are: {', '.join(READERS)}.",
        details={"key": key, "near": near, "place": place},
    )


def _read_text(value: Any, key: str, source: str) -> str:
    if not isinstance(value, str) or not value:
        raise _invalid(value, key, source, "a text")
    return value


def _read_permissions(value: Any, key: str, source: str) -> Permissions:
    found = next((known for known in PERMISSIONS if known == value), None)
    if found is None:
        raise _invalid(value, key, source, f"one of {', '.join(PERMISSIONS)}")
    return found


def _read_timeout(value: Any, key: str, source: str) -> float:
    try:
        return duration_s(str(value))
    except ValueError:
        raise _invalid(value, key, source, "a duration such as 90, 90s, 10m or 1h30m") from None


def _read_database_url(value: Any, key: str, source: str) -> str:
    if not isinstance(value, str):
        raise _invalid("…", key, source, "a text: postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    return value


def _invalid(value: Any, key: str, source: str, wanted: str) -> UsageError:
    return UsageError(
        f"{source}: {key} cannot be {value!r}.",
        hint=f"It has to be {wanted}.",
        details={"key": key, "source": source},
    )


READERS: dict[str, Callable[[Any, str, str], Any]] = {
    "agent": _read_text,
    "model": _read_text,
    "mode": _read_text,
    "provider": _read_text,
    "image": _read_text,
    "permissions": _read_permissions,
    "origin": _read_text,
    "timeout": _read_timeout,
    "registry": _read_text,
    "database_url": _read_database_url,
}
"""Each setting with what turns a raw value into the field's, in the order that users see."""
