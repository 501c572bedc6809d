"""What a client asks for when it wants a process, read strictly; and the limits that it is held to."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from agentctl.errors import UsageError

Json = dict[str, Any]
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
LONGEST_SIDE = 32767
_NOT_ASKED = ("rows", "cols", "attach", "unattended_ms", "session", "secrets")


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of ``/v1/processes/config``; all are whole numbers above 0. Field names are those of the wire."""

    maxConcurrentProcesses: int = 64
    defaultRunTimeoutMs: int = 30_000
    maxRunTimeoutMs: int = 300_000
    maxOutputBytes: int = 1024 * 1024
    maxLogBytesPerProcess: int = 10 * 1024 * 1024
    maxInputBytesPerRequest: int = 64 * 1024

    def to_json(self) -> Json:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Json) -> Limits:
        """All fields are required. Raise ``UsageError`` naming the one that is wrong."""
        names = tuple(cls.__dataclass_fields__)
        unknown = sorted(set(body) - set(names))
        if unknown:
            raise UsageError(f"Unknown limit: {unknown[0]}.", hint=f"The limits are {', '.join(names)}.")
        limits = cls(**{name: _whole(body, name) for name in names})
        if limits.defaultRunTimeoutMs > limits.maxRunTimeoutMs:
            raise UsageError("defaultRunTimeoutMs must not be above maxRunTimeoutMs.")
        return limits


def _whole(body: Json, name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**53:
        raise UsageError(f"{name} must be a whole number above 0.")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One process as it was asked for. ``env`` comes on top of the sandbox's own environment. ``rows`` and ``cols``
    are the first size of a terminal. A terminal that nobody views for ``unattended_ms`` is hung up.
    ``attach`` says that a reader comes at once, who is to miss nothing. Of the living session named ``session`` it has
    the variables too; ``secrets`` are values not to be shown, beside those that are known."""

    command: str
    args: tuple[str, ...] = ()
    cwd: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    tty: bool = False
    interactive: bool = False
    timeout_ms: int | None = None
    unattended_ms: int | None = None
    attach: bool = False
    rows: int = 24
    cols: int = 80
    session: str | None = None
    secrets: tuple[str, ...] = ()

    @property
    def argv(self) -> list[str]:
        return [self.command, *self.args]

    def digest(self) -> str:
        """Tells whether two requests ask for the same process; who looks at it and how is no part of that. Of the
        environment only this digest is kept, no value."""
        asked = {k: v for k, v in asdict(self).items() if k not in _NOT_ASKED}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @classmethod
    def from_json(cls, body: Json) -> ProcessSpec:
        """Raise ``UsageError`` naming what is wrong."""
        command = _text(body, "command")
        if not command:
            raise UsageError("The command is empty.", hint='Give {"command": "program", "args": […]}.')
        args = _texts(body, "args")
        for text in (command, *args):
            _check_text(text, "An argument")
        rows, cols = terminal_size({"rows": body.get("rows", 24), "cols": body.get("cols", 80)})
        return cls(
            command=command,
            args=args,
            cwd=_text(body, "cwd") or None,
            env=_environment(body.get("env") or {}),
            tty=_flag(body, "tty"),
            interactive=_flag(body, "interactive"),
            timeout_ms=_optional(body, "timeoutMs"),
            attach=_flag(body, "attach"),
            unattended_ms=_optional(body, "unattendedMs"),
            rows=rows,
            cols=cols,
            session=_text(body, "session") or None,
            secrets=_texts(body, "secrets"),
        )


def process_id(body: Json) -> str | None:
    """The id that the caller wants, None for one of ours. Raise ``UsageError`` for one that cannot be a name."""
    wanted = body.get("id")
    if wanted is None:
        return None
    if not isinstance(wanted, str) or not _ID.fullmatch(wanted):
        raise UsageError(
            f"{str(wanted)[:40]!r} cannot name a process.", hint="Use letters, digits, '.', '_' and '-', at most 128."
        )
    return wanted


def _optional(body: Json, name: str) -> int | None:
    return None if body.get(name) is None else _whole(body, name)


def terminal_size(body: Json) -> tuple[int, int]:
    """``(rows, cols)``. Raise ``UsageError`` unless both are from 1 to 32767."""
    size = (_whole(body, "rows"), _whole(body, "cols"))
    if max(size) > LONGEST_SIDE:
        raise UsageError(f"A terminal has at most {LONGEST_SIDE} rows and columns.")
    return size


def _text(body: Json, name: str) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UsageError(f"{name} must be a text.")
    _check_text(value, name)
    return value


def _texts(body: Json, name: str) -> tuple[str, ...]:
    values = body.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UsageError(f"{name} must be a list of texts.")
    return tuple(values)


def _flag(body: Json, name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false.")
    return bool(value)


def _environment(given: Any) -> dict[str, str]:
    if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
        raise UsageError("env must be an object of texts.")
    for name, value in given.items():
        if not name or "=" in name:
            raise UsageError(f"{name[:40]!r} cannot name a variable.")
        _check_text(name, "A variable's name")
        _check_text(value, f"The value of {name[:40]}")
    return given


def _check_text(text: str, what: str) -> None:
    if "\0" in text:
        raise UsageError(f"{what} holds a NUL character, which no program can be given.")
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not text: it holds half of a character.") from None
