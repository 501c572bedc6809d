"""Whether a volume of the emulated Daytona has HOME as a turn left it."""

from __future__ import annotations

import hashlib
from pathlib import Path


def is_kept(generations: Path, since: float) -> bool:
    """Whether a whole generation of HOME was written since then.

    HOME follows the end of a turn to the volume; what dies in between takes it along.
    """
    young = [path for path in generations.glob("*.tgz") if path.stat().st_mtime >= since]
    return any(hashlib.sha256(path.read_bytes()).hexdigest() in path.name for path in young)
