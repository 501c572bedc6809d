"""A line for each command in ``<state>/logs/agentctl.log``: when, which, how long, how it ended.

Only words of our own get there: commands, names of options, codes. What users say, and values of options, never do, so
no secret can. At ``_LARGEST`` bytes the file becomes ``agentctl.log.1``, in place of the one before it.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # typing costs 10 ms
if TYPE_CHECKING:
    from pathlib import Path

_LARGEST = 512 * 1024


def append(argv: list[str], code: int, seconds: float, *facts: str) -> None:
    """Add the line of a command that ended. One that never looked for the state directory has none, and where it cannot
    be written there is none: logging fails nothing."""
    if "agentctl.paths" not in sys.modules:
        return
    from agentctl import __version__

    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    words = [when, str(os.getpid()), __version__, *own_words(argv), f"exit={code}", f"ms={seconds * 1000:.0f}", *facts]
    try:
        _write(log_path(), " ".join(words) + "\n")
    except OSError:
        return


def log_path() -> Path:
    """Where it is, whether there is one or not."""
    from agentctl.paths import StatePaths, default_state_dir

    return StatePaths(default_state_dir()).log


def own_words(argv: list[str]) -> list[str]:
    """The words of the command line that are ours: the command's and options', without any value."""
    from agentctl.cli import command_table as table

    before = argv[: argv.index("--")] if "--" in argv else argv
    options = {name for names, *_ in table.OPTIONS for name in names}
    path = ""
    for word in before:
        name = table.ALIASES.get(f"{path} {word}".strip(), word)
        if name in table.GROUPS.get(path, ()):
            path = f"{path} {name}".strip()
    given = [word.split("=", 1)[0] for word in before if word.startswith("-")]
    return [*path.split(), *(name for name in given if name in options)]


def _write(path: Path, line: str) -> None:
    """Into a state directory that is there; a whole line at once, so that commands do not mix theirs."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        if not path.parent.parent.is_dir():
            return
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, line.encode())
        is_full = os.fstat(fd).st_size >= _LARGEST
    finally:
        os.close(fd)
    if is_full:
        os.replace(path, f"{path}.1")
