"""The supervisor's runtime: its bundle, unpacked and byte-compiled once, found again in about a millisecond.

``<state>/runtime/<content hash>-<cache tag>/`` is made under another name and renamed, so that a half-made one is never
seen and two processes may make it at once. Its content never changes: a changed agentctl has another hash.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path

from agentctl import __version__
from agentctl.errors import InstallFailed
from agentctl.paths import StatePaths, state_errors

OWN_PACKAGE = Path(__file__).parent.parent
LIBRARIES = ("starlette", "uvicorn", "wsproto")
"""The libraries that the supervisor imports; the bundle holds what they require too."""

_OWN_FILES = (
    "__init__.py",
    "errors.py",
    "events.py",
    "frozen.py",
    "ids.py",
    "wire.py",
    "providers/bundle_entry.py",
    "providers/packed_entry.py",
)
_OWN_DIRECTORIES = ("acp", "supervisor")
_INSTALLED = re.compile(r"(starlette|uvicorn|wsproto|h11|anyio|idna|typing_extensions)-.*", re.IGNORECASE)
_NEW = ".new-"
_BUILD_S = 3600
_KEPT = 4
_KEPT_S = 7 * 24 * 3600
_OLDEST_PYTHON = (3, 11)


def ensure_runtime(paths: StatePaths, python: str = sys.executable) -> Path:
    """The directory of the unpacked bundle, compiled for ``python``; made when it is missing.

    ``python -IS <directory>/__main__.py serve`` starts a supervisor. Raise ``InstallFailed``, ``StateNotWritable`` or
    ``DiskFull``; nothing is left then.
    """
    return ensure_runtime_for(paths, _cache_tag(python), lambda new, runtime: _compile(python, new, runtime))


def ensure_runtime_for(paths: StatePaths, cache_tag: str, compile_: Callable[[Path, Path], None]) -> Path:
    """The same for an interpreter that may be elsewhere: ``compile_(new, runtime)`` compiles what is in ``new``, which
    will be called ``runtime``. Raise what that raises, too."""
    runtime = paths.runtime / f"{fingerprint()}-{cache_tag}"
    with state_errors(runtime):
        try:
            os.utime(runtime)  # tells the sweep that it is in use
        except FileNotFoundError:
            _make(runtime, compile_)
            _sweep(paths.runtime, keep=runtime)
    return runtime


def own_files() -> Iterator[Path]:
    """Our own files that go into a bundle, in a fixed order."""
    for name in _OWN_FILES:
        yield OWN_PACKAGE / name
    for directory in _OWN_DIRECTORIES:
        for root, directories, names in os.walk(OWN_PACKAGE / directory):
            directories[:] = sorted(d for d in directories if d != "__pycache__")
            yield from (Path(root, name) for name in sorted(names) if name.endswith(".py"))


def fingerprint() -> str:
    """What a bundle made now would be made of, as 16 hex digits: versions, and size and time of our own files.

    Contents are not read: this runs at every command. An edited checkout and an upgraded library are both seen.
    """
    parts = [__version__]
    for path in own_files():
        status = os.stat(path)
        parts.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    parts += _library_marks()
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _library_marks() -> Iterator[str]:
    """Asking importlib.metadata for the versions would cost 35 ms; the names of its directories hold them."""
    places = set()
    for name in LIBRARIES:
        spec = PathFinder.find_spec(name)
        if spec is None or spec.origin is None:
            yield f"{name} is missing"
            continue
        status = os.stat(spec.origin)
        yield f"{spec.origin} {status.st_size} {status.st_mtime_ns}"
        places.add(os.path.dirname(os.path.dirname(spec.origin)))
    for place in sorted(places):
        yield from sorted(filter(_INSTALLED.fullmatch, os.listdir(place)))


def _cache_tag(python: str) -> str:
    """The name under which ``python`` keeps compiled files. Raise ``InstallFailed`` when it cannot run a supervisor."""
    if python == sys.executable:
        return sys.implementation.cache_tag
    code = "import sys; print(sys.implementation.cache_tag, *sys.version_info[:2])"
    tag, major, minor = _output([python, "-IS", "-c", code]).split()
    if (int(major), int(minor)) < _OLDEST_PYTHON:
        raise InstallFailed(
            f"{python} is Python {major}.{minor}; the supervisor needs 3.11 or newer.",
            hint="Install a newer Python in the sandbox.",
        )
    return tag


def compile_arguments(new: Path, runtime: Path) -> list[str]:
    """What an interpreter is told: with the final path in tracebacks; never checked against the source, which does not
    change either."""
    places = ["-s", str(new), "-p", str(runtime)]
    return ["-IS", "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash", *places, str(new)]


def _compile(python: str, new: Path, runtime: Path) -> None:
    _output([python, *compile_arguments(new, runtime)])


def _make(runtime: Path, compile_: Callable[[Path, Path], None]) -> None:
    import tempfile

    from agentctl.providers.bundle import build_bundle

    runtime.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=runtime.parent))
    with _removed_after(new):
        build_bundle(new)
        compile_(new, runtime)
        try:
            new.rename(runtime)
        except OSError:
            if not runtime.is_dir():
                raise
            # Another process was faster; its runtime is as good as ours.


def _output(argv: list[str]) -> str:
    import subprocess

    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as e:
        raise InstallFailed(f"There is no Python at {argv[0]}.", hint="Install Python 3.11 or newer.") from e
    except subprocess.CalledProcessError as e:
        said = (e.stderr.strip() or e.stdout.strip()).splitlines()[-1:]
        raise InstallFailed(f"{argv[0]} could not prepare the supervisor: {' '.join(said) or e}.") from e


@contextmanager
def _removed_after(directory: Path) -> Iterator[None]:
    import shutil

    try:
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _sweep(root: Path, keep: Path) -> None:
    """Remove what nobody needs any more: other runtimes, and builds that were given up."""
    import shutil

    used = _command_lines()
    runtimes = (path for path in root.iterdir() if path != keep and not path.name.startswith(_NEW))
    for place, path in enumerate(sorted(runtimes, key=_last_used, reverse=True), start=1):
        if _is_spent(path, place, used):
            shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(f"{_NEW}*"):
        if time.time() - _last_used(path) > _BUILD_S:
            shutil.rmtree(path, ignore_errors=True)


def _is_spent(path: Path, place: int, used: bytes | None) -> bool:
    """No process uses it, and it is old or not among the newest few. Where the system does not tell what processes
    use, only age counts."""
    is_old = time.time() - _last_used(path) > _KEPT_S
    if used is None:
        return is_old
    return os.fsencode(path) not in used and (is_old or place >= _KEPT)


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _command_lines() -> bytes | None:
    """The command lines of all processes; None where there is no /proc."""
    if not os.path.isdir("/proc/self"):
        return None
    return b"\n".join(_command_line(pid) for pid in os.listdir("/proc") if pid.isdecimal())


def _command_line(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""
