"""``--env-file``: lines of ``NAME=value``, read when they are needed and never stored."""

from __future__ import annotations

import re
from pathlib import Path

from agentctl.errors import UsageError

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


def read(path: Path) -> dict[str, str]:
    """Comments (``#``), blank lines, ``export`` and one pair of quotes around a value are understood; nothing is
    expanded. Raise ``UsageError`` with the line number for anything else."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"Cannot read --env-file {path}: {e}") from e
    values = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise UsageError(f"{path}:{number}: expected NAME=value.")
        if "\0" in line:
            raise UsageError(f"{path}:{number}: a NUL cannot be in a variable.")
        values[match[1]] = _unquoted(match[2])
    return values


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value
