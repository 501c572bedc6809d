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
    if not environ.get(name):
        raise UsageError(f"--secret {name}: there is no such environment variable, or it is empty.")
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
        from getpass import getpass

        text = getpass(f"{name}: ")
    else:
        text = sys.stdin.read().rstrip("\r\n")
    if not text or "\0" in text:
        raise UsageError(f"--secret {name}=-: stdin brought no value.")
    return text
