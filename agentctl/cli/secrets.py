"""``--secret``: from what was typed to where a value comes from. A value itself is never an argument."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agentctl.errors import UsageError

Json = dict[str, Any]
MAX_SECRET_BYTES = 64 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Given(NamedTuple):
    """``sources`` as ``SessionSpec.secrets`` has them, and the values that came on stdin."""

    sources: tuple[Json, ...]
    values: dict[str, str]


def secrets_given(options: Iterable[str], environ: Mapping[str, str] = os.environ, *, ephemeral: bool = False) -> Given:
    """Read ``NAME`` (its value is in our environment), ``NAME=@FILE`` and ``NAME=-`` (stdin, for one of them).

    Raise ``UsageError`` for anything else, and for what is not there now.
    """
    sources: dict[str, Json] = {}
    values: dict[str, str] = {}
    for option in options:
        name, sign, rest = option.partition("=")
        if not _NAME.fullmatch(name):
            raise UsageError("A --secret begins with the name of its variable.", hint="--secret API_KEY=@key.txt")
        if not sign:
            sources[name] = _from_environment(name, environ)
        elif rest == "-":
            if values:
                raise UsageError("Only one --secret can come on stdin.", hint="Use NAME=@FILE for the others.")
            values[name] = _from_stdin(name)
            sources[name] = {"name": name, "from": "asked" if ephemeral else "stored"}
        elif rest.startswith("@"):
            sources[name] = _from_file(name, rest[1:])
        else:
            raise UsageError(
                f"The value of --secret {name} would show in the list of processes.",
                hint=f"Give --secret {name} (from the environment), {name}=@FILE, or {name}=- (from stdin).",
            )
    return Given(tuple(sources.values()), values)


def values_given(options: Iterable[str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The values themselves, for a session that has such secrets already. Raise as ``secrets_given``."""
    from agentctl.ops.secrets import read_file

    given = secrets_given(options, environ)
    found = dict(given.values)
    for source in given.sources:
        if source["from"] == "env":
            found[source["name"]] = environ[source["name"]]
        elif source["from"] == "file":
            found[source["name"]] = read_file(Path(source["path"]))
    return found


def _from_environment(name: str, environ: Mapping[str, str]) -> Json:
    value = environ.get(name)
    if not value:
        raise UsageError(f"--secret {name}: there is no such environment variable, or it is empty.")
    if any("\udc80" <= char <= "\udcff" for char in value):
        raise UsageError(f"--secret {name}: the value of this variable is no UTF-8 text.")
    return {"name": name, "from": "env"}


def _from_file(name: str, path: str) -> Json:
    found = Path(path).expanduser().absolute()
    if not found.is_file():
        raise UsageError(f"--secret {name}: {path} is not a file.")
    return {"name": name, "from": "file", "path": str(found)}


def _from_stdin(name: str) -> str:
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError(f"--secret {name}=-: there is no stdin.")
    if sys.stdin.isatty():
        from agentctl.cli.switches import NO_INPUT

        if NO_INPUT.is_forbidden():
            raise UsageError(
                f"--secret {name}=-: its value is not asked for with --no-input.",
                hint=f"Use {name}=@FILE, pipe it in, or take it from the environment: --secret {name}",
            )
        from getpass import getpass

        text = getpass(f"{name}: ")
    else:
        text = _piped(name)
    if not text or "\0" in text:
        raise UsageError(f"--secret {name}=-: stdin brought no value.")
    return text


def _piped(name: str) -> str:
    try:
        text = sys.stdin.read(MAX_SECRET_BYTES + 1)
        size = len(text.encode())
    except UnicodeError as e:
        raise UsageError(f"--secret {name}=-: what stdin brought is no UTF-8 text.") from e
    if size > MAX_SECRET_BYTES:
        raise UsageError(f"--secret {name}=-: a secret has at most {MAX_SECRET_BYTES} bytes.")
    return text.rstrip("\r\n")
