"""What a user set once instead of typing it each time: flags over environment over file over defaults.

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

The file is ``$AGENTCTL_CONFIG``, else ``agentctl/config.toml`` in the user's configuration directory: ``key = value``
lines in TOML. A key that is not in the table is an error, since a misspelt one would silently do nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentctl.errors import UsageError
from agentctl.model import PERMISSIONS, Permissions

DEFAULT = "default"
FLAG = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
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

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ, flags: Mapping[str, Any] | None = None) -> Config:
        """Read the file and merge all sources; a flag that is None was not given, an empty variable is not set.

        Raise ``UsageError`` that names the file and line, the variable or the flag at fault.
        """
        settings = _from_file(environ)
        settings |= _from_environment(environ)
        settings |= {key: (value, FLAG) for key, value in (flags or {}).items() if value is not None}
        values = {key: _READERS[key](value, key, source) for key, (value, source) in settings.items()}
        return cls(**values, _sources={key: source for key, (_, source) in settings.items()})

    def origin_of(self, key: str) -> str:
        """Where the value of ``key`` comes from: ``flag``, the variable's name, ``FILE:LINE`` or ``default``."""
        return self._sources.get(key, DEFAULT)


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration file of this user, whether it exists or not."""
    if environ.get("AGENTCTL_CONFIG"):
        return Path(environ["AGENTCTL_CONFIG"]).expanduser().absolute()
    if environ.get("XDG_CONFIG_HOME"):
        return Path(environ["XDG_CONFIG_HOME"]) / "agentctl" / "config.toml"
    from platformdirs import user_config_path

    return user_config_path("agentctl", appauthor=False) / "config.toml"


def duration_s(text: str) -> float:
    """``"90"``, ``"90s"``, ``"1.5m"`` or ``"1h30m"`` in seconds. Raise ``ValueError`` for all else, zero included."""
    number = r"(\d+(?:\.\d+)?)"
    matched = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text.strip())
    hours, minutes, seconds = (float(part or 0) for part in matched.groups()) if matched else (0.0, 0.0, 0.0)
    total = hours * 3600 + minutes * 60 + seconds
    if not total:
        raise ValueError(f"{text!r} is not a duration")
    return total


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    names = {key: f"AGENTCTL_{key.upper()}" for key in _READERS}
    return {key: (environ[name], name) for key, name in names.items() if environ.get(name)}


def _from_file(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    path = config_path(environ)
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        if environ.get("AGENTCTL_CONFIG"):
            raise UsageError(f"There is no configuration file {path}.", hint="AGENTCTL_CONFIG names it.") from None
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"Cannot read the configuration file {path}: {e}.") from e
    settings = {}
    for key, value in _parse(text, path).items():
        place = f"{path}:{_line_of(key, text)}"
        if key not in _READERS:
            raise _unknown(key, place)
        settings[key] = (value, place)
    return settings


def _parse(text: str, path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"The configuration file {path} is not TOML: {e}.", hint='Write `key = "value"` lines.') from e


def _line_of(key: str, text: str) -> int:
    """The line that sets ``key``, as a plain or quoted key or as a table; 1 when it is written in another way."""
    pattern = re.compile(rf"\s*\[*\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
    return next((number for number, line in enumerate(text.splitlines(), start=1) if pattern.match(line)), 1)


def _unknown(key: str, place: str) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(key, _READERS, n=1)
    meant = f"Did you mean {near[0]!r}? " if near else ""
    return UsageError(
        f"{place}: there is no setting {key!r}.",
        hint=f"{meant}Settings are: {', '.join(_READERS)}.",
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


_READERS: dict[str, Callable[[Any, str, str], Any]] = {
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
