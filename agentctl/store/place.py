"""Where local volumes lie, for machines that share a store: a state directory, known by an id that it keeps.

Not by the machine's name: that may change, two may have the same, and a state directory may be moved, or be mounted on
several machines, which then all reach its volumes.
"""

from __future__ import annotations

import os
from pathlib import Path

from agentctl import ids
from agentctl.paths import StatePaths, state_errors

_FILE = "place"


def place_file(paths: StatePaths) -> Path:
    """Where the id is kept; it exists when the state directory was used with a shared store."""
    return paths.root / _FILE


def place_of(paths: StatePaths) -> str:
    """The id of the state directory, made when it has none. Raise ``StateNotWritable`` or ``DiskFull``."""
    path = place_file(paths.ensure())
    with state_errors(path):
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            pass
        # Whole or not there at all, and the first one wins.
        draft = path.with_name(f"{_FILE}.{os.getpid()}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(f"{ids.new_id('plc')}\n")
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_text().strip()


def this_machine() -> str:
    """What users call the machine, to be said where a place is meant."""
    return os.uname().nodename
