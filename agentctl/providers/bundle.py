"""What the supervisor is made of: our own modules that run in a sandbox, and the pure-Python libraries they need.

Imported only when a bundle is built; ``bootstrap.py`` decides whether one is needed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from agentctl.errors import InstallFailed
from agentctl.providers.bootstrap import LIBRARIES, OWN_PACKAGE, own_files

_NOT_WANTED = {"click"}
"""Only uvicorn's command line needs it, which stays out; that saves 15 ms at every start."""

_LEFT_OUT = re.compile(
    r"(.*/)?tests?/"
    r"|uvicorn/(__main__|main|workers)\.py|uvicorn/supervisors/"
    r"|uvicorn/protocols/http/(httptools|zttp|zttp_h2)_impl\.py|uvicorn/protocols/websockets/websockets\w*_impl\.py"
    r"|starlette/testclient\.py"
    r"|anyio/(pytest_plugin\.py|_backends/_trio\.py)"
)
_COMPILED = re.compile(r".*\.(so|pyd|dylib|dll)")

_UVICORN_INIT = '''"""Part of uvicorn without its command line: see agentctl's bundle.py."""

from uvicorn.config import Config
from uvicorn.server import Server

__version__ = "{version}"
__all__ = ["Config", "Server"]
'''
"""uvicorn's own ``__init__`` imports its command line and, through it, click."""


def build_bundle(target: Path) -> None:
    """Fill the empty directory ``target`` with everything that a sandbox's Python needs besides its standard library.

    Raise ``InstallFailed`` when a library is missing or has compiled parts, which would not run in a foreign sandbox.
    """
    _copy_own(target)
    for library in _libraries():
        _copy_library(library, target)
    version = distribution("uvicorn").version
    (target / "uvicorn" / "__init__.py").write_text(_UVICORN_INIT.format(version=version))
    shutil.copyfile(Path(__file__).with_name("bundle_entry.py"), target / "__main__.py")


def _copy_own(target: Path) -> None:
    for path in own_files():
        _copy(path, target / "agentctl" / path.relative_to(OWN_PACKAGE))


def _libraries() -> list[Distribution]:
    """The installed libraries of ``LIBRARIES`` with all that they require, each once."""
    found: dict[str, Distribution] = {}
    wanted = list(LIBRARIES)
    while wanted:
        name = wanted.pop()
        if name in found or name in _NOT_WANTED:
            continue
        found[name] = _installed(name)
        wanted += _requirements(found[name])
    return [found[name] for name in sorted(found)]


def _requirements(library: Distribution) -> Iterator[str]:
    for requirement in library.requires or ():
        specifier, _, marker = requirement.partition(";")
        matched = re.match(r"[A-Za-z0-9._-]+", specifier.strip())
        if matched is None or "extra" in marker:
            continue
        name = re.sub(r"[-_.]+", "-", matched[0]).lower()
        # A marker speaks of Python versions or systems: what this Python did not need is not installed.
        if not marker or _is_installed(name):
            yield name


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _installed(name: str) -> Distribution:
    try:
        library = distribution(name)
    except PackageNotFoundError as e:
        raise InstallFailed(f"The library {name} is not installed beside agentctl.", hint=_REINSTALL) from e
    if library.files is None:
        raise InstallFailed(f"The library {name} was installed without a list of its files.", hint=_REINSTALL)
    return library


_REINSTALL = "Install agentctl again with pip, pipx or uv into an environment of its own."


def _copy_library(library: Distribution, target: Path) -> None:
    for file in library.files or ():
        relative = file.as_posix()
        if relative.startswith("..") or _LEFT_OUT.match(relative):
            continue
        if _COMPILED.fullmatch(relative):
            raise InstallFailed(
                f"The library {library.name} has a compiled part ({relative}), which cannot go into a sandbox.",
                hint=f"`pip install --force-reinstall --no-binary :all: {library.name}` installs one without.",
            )
        if relative.endswith(".py"):
            _copy(Path(str(library.locate_file(file))), target / relative)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
