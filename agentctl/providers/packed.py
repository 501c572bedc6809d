"""The supervisor's bundle in two files, for sandboxes that it has to be sent to: nothing is unpacked there.

``bundle`` has each module twice, compressed by itself: compiled by this Python, and as source, for another Python and
for tracebacks. ``packed_entry.py`` imports from it, and tells its format.
"""

from __future__ import annotations

import importlib.util
import marshal
import sys
import zlib
from pathlib import Path

_HEADER_BYTES = 16
"""Of a compiled file, before its code."""

_MARSHAL_VERSION = 4
"""That every Python from 3.4 on reads."""


def packed(runtime: Path) -> dict[str, bytes]:
    """The files of a packed bundle by their names, made of the unpacked one in ``runtime``, compiled for this Python.

    ``python -IS <directory>/__main__.py serve`` starts a supervisor, as from the unpacked one.
    """
    return {
        "__main__.py": Path(__file__).with_name("packed_entry.py").read_bytes(),
        "bundle": _bundle(runtime),
    }


def _bundle(runtime: Path) -> bytes:
    index: dict[str, tuple[bool, str, int, int, int, int]] = {}
    parts: list[bytes] = []
    size = 0
    for source in sorted(runtime.rglob("*.py")):
        code, text = (zlib.compress(data) for data in (_code(source), source.read_bytes()))
        name, is_package = _name(source.relative_to(runtime))
        at = size
        index[name] = (is_package, str(source.relative_to(runtime)), at, len(code), at + len(code), len(text))
        parts += (code, text)
        size += len(code) + len(text)
    head = marshal.dumps((importlib.util.MAGIC_NUMBER, index), _MARSHAL_VERSION)
    return b"".join((len(head).to_bytes(4, "big"), head, *parts))


def _code(source: Path) -> bytes:
    """As ``bootstrap.py`` had it compiled, whatever flags and variables we run with."""
    compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    return compiled.read_bytes()[_HEADER_BYTES:]


def _name(relative: Path) -> tuple[str, bool]:
    """``__main__`` is ``packed_entry.py`` in a process that it has started: what it goes on with has another name."""
    parts = [*relative.parts[:-1], relative.stem]
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return ("bundle_entry" if name == "__main__" else name), is_package
