"""How much that is, in the words of people."""

from __future__ import annotations


def size_text(size: int) -> str:
    """``3 bytes``, ``12.3 MB``."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} byte" if size == 1 else f"{size} bytes"
