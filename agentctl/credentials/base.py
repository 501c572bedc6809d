"""What a search for credentials needs to know of an agent, and what it finds. Values never show in a ``repr``."""

from __future__ import annotations

import json
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, Protocol

from agentctl.frozen import frozen

MAX_FILE_BYTES = 1024 * 1024
_SECRET_KEY = re.compile(r"key|token|secret|password|authorization|^access$|^refresh$", re.IGNORECASE)
_LAST_MOMENT_MS = 253402300799_000
"""The end of the year 9999; what ends later does not end."""

_MIN_SECRET_LENGTH = 8
"""Shorter values are not redacted: they would blacken ordinary text."""


class Need(Protocol):
    """``agents.schema.CredentialNeed``, seen from here (the two packages do not import each other)."""

    @property
    def family(self) -> str: ...
    @property
    def variables(self) -> tuple[str, ...]: ...
    @property
    def exclusive(self) -> bool: ...
    @property
    def passes(self) -> tuple[str, ...]: ...
    @property
    def switches(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def required(self) -> bool: ...
    @property
    def note(self) -> str: ...


class Agent(Protocol):
    """``agents.schema.AgentRecipe``, seen from here."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def credentials(self) -> Need: ...


@frozen
class Credentials:
    """What goes along into the sandbox.

    ``env`` are variables for the agent, ``files`` texts to place under its HOME (relative path → text), ``secrets``
    the values to redact wherever something is written. ``source`` says where the credential was found in words that
    may be shown (``environment: OPENAI_API_KEY``); empty means that none was found. ``note`` says what was found and
    could not be used.
    """

    env: dict[str, str] = field(default_factory=dict, repr=False)
    files: dict[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    source: str = ""
    note: str = ""

    @property
    def found(self) -> bool:
        return bool(self.source)


def present(environ: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Those of ``names`` that have a value. Empty means absent."""
    return {name: environ[name] for name in names if environ.get(name, "").strip()}


def secrets_among(env: Mapping[str, str], names: tuple[str, ...] = ()) -> list[str]:
    """The values of ``names`` and of variables that sound secret, and the secrets inside of other values."""
    found: list[str] = []
    for name, value in env.items():
        if name in names or _SECRET_KEY.search(name):
            found.append(value)
        elif name.endswith("_HEADERS"):
            found += [line.partition(":")[2].strip() for line in value.splitlines()]
        else:
            found += secrets_in(value)
    return [value for value in found if len(value) >= _MIN_SECRET_LENGTH]


def secrets_in(text: str) -> list[str]:
    """The strings of a JSON text that stand under a key such as ``apiKey``, ``Authorization`` or ``refresh``.

    It is searched and not parsed, since a configuration may have comments. The name of a variable is no secret.
    """
    pairs = re.findall(r'"((?:[^"\\]|\\.)*)"\s*:\s*("(?:[^"\\]|\\.)*")', text)
    values = [_string(value) for key, value in pairs if _SECRET_KEY.search(key) and not key.startswith("env_")]
    return [value for value in values if len(value) >= _MIN_SECRET_LENGTH and not value.startswith("{env:")]


def _string(literal: str) -> str:
    try:
        return str(json.loads(literal))
    except ValueError:
        return literal.strip('"')


@frozen
class Credential:
    """One key or token of a model provider, wherever it was found.

    ``source`` is the program that keeps it (``claude-code``, ``codex``, ``opencode``, ``amp``, ``gemini``) or
    ``environment``; ``place`` the file or the variable. ``variables`` are those in which programs look for it; none
    when no program takes such a login from a variable.
    """

    provider: str
    source: str
    place: str
    kind: Literal["api_key", "oauth"]
    value: str = field(repr=False)
    variables: tuple[str, ...] = ()
    expires_at: float | None = None

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= time.time()


class Places:
    """The files of other programs under one HOME. What is there and cannot be used is told in ``warnings``."""

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self.home = home
        self.environ = environ
        self.warnings: list[str] = []

    def folder(self, variable: str, default: str) -> Path:
        """The directory that ``variable`` names, else ``default`` under HOME."""
        given = self.environ.get(variable)
        return Path(given) if given else self.home / default

    def text(self, path: Path) -> str | None:
        """The file's text; None where there is no file, or none that can be read."""
        try:
            return _checked_text(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            self.warnings.append(f"{path} was skipped: {e.strerror or e}.")
        except ValueError as e:
            self.warnings.append(f"{path} was skipped: {e}.")
        return None

    def json(self, path: Path) -> dict[str, Any]:
        """The file's JSON object; empty where there is none that can be used."""
        text = self.text(path)
        if text is None or not text.strip():
            return {}
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            self.warnings.append(f"{path} was skipped: it is not JSON.")
            return {}
        if isinstance(data, dict):
            return data
        self.warnings.append(f"{path} was skipped: it is not a JSON object.")
        return {}


def _checked_text(path: Path) -> str:
    """Raise ``ValueError`` for what is no plain text file of a sane size: a pipe would never end."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a file")
    if status.st_size > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def read_text(path: Path) -> str | None:
    """The file's text, or None where there is none that can be read."""
    try:
        return _checked_text(path)
    except (OSError, ValueError):
        return None


def expiry(value: Any) -> float | None:
    """An expiry as Unix seconds, from epoch milliseconds or RFC 3339 text. One that cannot be read is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value / 1000 if abs(value) <= _LAST_MOMENT_MS else None
    if isinstance(value, str):
        import datetime

        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    return None


def filled(value: Any) -> str:
    """A text that holds something, else ``""``."""
    return value if isinstance(value, str) and value.strip() else ""


def parse_json(text: str | None) -> dict[str, Any]:
    """A JSON object, or an empty one for anything else."""
    try:
        data = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def get_path(data: Any, *keys: str) -> Any:
    """``data[k1][k2]…``, or None where a step is missing."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data
