"""The ``__main__.py`` of a packed bundle: ``python -IS PACKED/__main__.py [-C DIRECTORY] ENTRY``.

Beside it lies ``bundle``: four bytes, the length of a marshalled ``(magic, {module: (is it a package, its path, and of
its code and its source where each begins and how long it is)})``, and those, compressed by zlib. What was compiled by a
Python with another ``magic`` is compiled again, module by module, by what needs it. Nothing is written.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import MAGIC_NUMBER
from types import CodeType, ModuleType
from typing import Any


class Bundle:
    """Finder and loader of the modules in a packed bundle; ``get_source`` is for tracebacks."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = os.open(os.path.join(directory, "bundle"), os.O_RDONLY | os.O_CLOEXEC)
        length = int.from_bytes(os.pread(self._fd, 4, 0), "big")
        magic, self._index = marshal.loads(os.pread(self._fd, length, 4))  # noqa: S302 - our own
        self._first = 4 + length
        self._is_ours = magic == MAGIC_NUMBER

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self._index:
            return None
        is_package, relative, *_ = self._index[name]
        origin = os.path.join(self._directory, relative)
        spec = ModuleSpec(name, self, origin=origin, is_package=is_package)  # type: ignore[arg-type]  # no subclass
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations = [os.path.dirname(origin)]
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        """As every other module is."""

    def exec_module(self, module: ModuleType) -> None:
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - that is what importing is

    def get_code(self, name: str) -> CodeType:
        _, relative, at, size, _, _ = self._index[name]
        code: CodeType
        if self._is_ours:
            code = marshal.loads(self._read(at, size))  # noqa: S302 - our own
        else:
            code = compile(self._source(name), os.path.join(self._directory, relative), "exec", dont_inherit=True)
        return code

    def get_source(self, name: str) -> str:
        return self._source(name).decode()

    def _source(self, name: str) -> bytes:
        *_, at, size = self._index[name]
        return self._read(at, size)

    def _read(self, at: int, size: int) -> bytes:
        return zlib.decompress(os.pread(self._fd, size, self._first + at))


def main() -> int:
    bundle = Bundle(os.path.dirname(os.path.abspath(__file__)))
    sys.meta_path.insert(-1, bundle)  # before what looks into directories
    result: int = import_module("bundle_entry").main()
    return result


if __name__ == "__main__":
    sys.exit(main())
