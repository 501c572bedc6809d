"""The files that settings come from: the user's, and a project's, which is a stranger's until the user trusts it.

A project file is ``agentctl.toml`` in the current directory or above. Of one that is not trusted only ``HARMLESS``
settings count. Trust is in the content: ``trusted`` in the user's configuration directory holds ``SHA-256 PATH`` lines,
and a file that was changed since is a stranger's again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentctl.errors import UsageError

PROJECT_FILE = "agentctl.toml"
HARMLESS = ("agent", "model", "mode", "provider", "image")
MAX_BYTES = 256 * 1024

Json = dict[str, Any]


def config_directory(environ: Mapping[str, str]) -> Path:
    """Where this user's configuration lies."""
    if environ.get("XDG_CONFIG_HOME"):
        return Path(environ["XDG_CONFIG_HOME"]) / "agentctl"
    from platformdirs import user_config_path

    return user_config_path("agentctl", appauthor=False)


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The configuration file of this user, whether it exists or not."""
    if environ.get("AGENTCTL_CONFIG"):
        return Path(environ["AGENTCTL_CONFIG"]).expanduser().absolute()
    return config_directory(environ) / "config.toml"


def project_path(start: Path) -> Path | None:
    """The nearest project file in ``start`` or above. One of another user (but root) is nobody's."""
    for directory in (start, *start.parents):
        path = directory / PROJECT_FILE
        try:
            owner = os.stat(path).st_uid
        except OSError:
            continue
        return path if owner in (os.getuid(), 0) else None
    return None


def read(path: Path) -> str:
    """Raise ``UsageError`` for what is no text, and ``FileNotFoundError``."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"The configuration file {path} is larger than {MAX_BYTES} bytes.")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"Cannot read the configuration file {path}: {e}.") from e


def parse(text: str, path: Path) -> Json:
    """Raise ``UsageError`` for what is not TOML."""
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"The configuration file {path} is not TOML: {e}.", hint='Write `key = "value"` lines.') from e


def line_of(key: str, text: str) -> int:
    """The line that sets ``key``, as a plain or quoted key or as a table; 1 when it is written in another way."""
    pattern = re.compile(rf"\s*\[*\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
    return next((number for number, line in enumerate(text.splitlines(), start=1) if pattern.match(line)), 1)


def is_trusted(text: str, path: Path, environ: Mapping[str, str]) -> bool:
    """Whether the user trusted a project file with this very content at this very place."""
    return _mark(text, path) in _marks(environ)


def trust(text: str, path: Path, environ: Mapping[str, str], *, trusted: bool) -> None:
    """Remember that this content is trusted there, or forget all that ever was."""
    others = [mark for mark in _marks(environ) if mark.partition(" ")[2] != str(path)]
    write_atomically(_trust_file(environ), "".join(f"{m}\n" for m in [*others, *([_mark(text, path)] * trusted)]))


def with_setting(text: str, key: str, value: str | None) -> str:
    """``text`` with the line of ``key`` replaced, added before the first table, or gone; all else stays as it is."""
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    own = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
    tables = next((number for number, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    at = next((number for number, line in enumerate(lines[:tables]) if own.match(line)), None)
    new = [] if value is None else [f"{key} = {_quoted(value)}\n"]
    if at is None:
        lines[tables:tables] = new
    else:
        lines[at : at + 1] = new
    return "".join(lines)


def write_atomically(path: Path, text: str) -> None:
    """Readable by the owner alone: settings may hold a database's password. Raise ``UsageError``."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path.resolve())
    except OSError as e:
        raise UsageError(f"Cannot write {path}: {e.strerror}.") from e
    finally:
        new.unlink(missing_ok=True)


def _quoted(value: str) -> str:
    import json

    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _mark(text: str, path: Path) -> str:
    import hashlib  # 2 ms, for those that have a project file

    return f"{hashlib.sha256(text.encode()).hexdigest()} {path}"


def _trust_file(environ: Mapping[str, str]) -> Path:
    return config_directory(environ) / "trusted"


def _marks(environ: Mapping[str, str]) -> list[str]:
    try:
        return _trust_file(environ).read_text("utf-8").splitlines()
    except OSError:
        return []
