"""Running npm: into a directory of ours, without scripts, with errors that say what npm said and what helps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable
from pathlib import Path

from agentctl.agents.platform import npm_flags
from agentctl.errors import DiskFull, InstallFailed

Progress = Callable[[str, int | None, int | None], None]
"""Called with a phase, and the bytes written so far and expected in all (None where unknown)."""

_FLAGS = (
    "--no-audit",
    "--no-fund",
    "--no-progress",
    "--ignore-scripts",
    "--save-exact",
    "--package-lock=true",
    "--include=optional",
    "--loglevel=error",
    "--fetch-retries=2",
    "--fetch-retry-factor=2",
    "--fetch-retry-mintimeout=500",
    "--fetch-retry-maxtimeout=4000",
)
_PROGRESS_EVERY_S = 0.5
_DEADLINE_S = 1800
_OFFLINE_CODES = frozenset(
    (
        "ECONNREFUSED",
        "ECONNRESET",
        "ENOTFOUND",
        "EAI_AGAIN",
        "ETIMEDOUT",
        "ENETUNREACH",
        "EHOSTUNREACH",
        "ERR_SOCKET_TIMEOUT",
    )
)
_MISSING_CODES = frozenset(("E404", "ETARGET", "ENOVERSIONS"))
_NPM_MISSING_HINT = (
    "Install Node.js with npm and try again: `apt-get install npm` on Debian and Ubuntu, `brew install node` on macOS."
)


async def install(
    target: Path,
    packages: tuple[str, ...],
    *,
    registry: str | None,
    size_bytes: int | None,
    label: str,
    progress: Progress,
    platform: str | None = None,
) -> None:
    """``npm install`` exactly ``packages`` into ``target``, which holds nothing else; for ``platform``, or here.

    Raise ``InstallFailed`` with npm's last words (npm missing, registry unreachable, version unknown) or ``DiskFull``.
    When cancelled, npm is ended first.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise InstallFailed("npm is not on PATH, and agents are installed from npm.", hint=_NPM_MISSING_HINT)
    # Without a package.json of its own npm would install into the next parent directory that has one.
    (target / "package.json").write_text(json.dumps({"private": True}))
    registry_flag = (f"--registry={registry}",) if registry else ()
    flags = (*_FLAGS, *_flags_for(platform, packages), *registry_flag)
    process = await asyncio.create_subprocess_exec(
        npm, "install", *flags, *packages, cwd=target, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
    )
    last: deque[str] = deque(maxlen=40)
    try:
        async with asyncio.timeout(_DEADLINE_S), asyncio.TaskGroup() as tasks:
            meter = tasks.create_task(_report(target, size_bytes, label, progress))
            await _drain(process, last)
            await process.wait()
            meter.cancel()
    except TimeoutError as e:
        raise InstallFailed(f"npm did not finish within {_DEADLINE_S // 60} minutes.", hint=_hint(None)) from e
    finally:
        await _end(process)
    if process.returncode != 0:
        raise _failure(packages, list(last), process.returncode)


def _flags_for(platform: str | None, packages: tuple[str, ...]) -> tuple[str, ...]:
    """npm minds these flags for what packages depend on; what is asked for by name it checks against this machine,
    unless it is forced."""
    forced = platform is not None and any(platform in package for package in packages)
    return (*npm_flags(platform), *(("--force",) if forced else ()))


async def _drain(process: Process, last: deque[str]) -> None:
    assert process.stderr is not None
    rest = b""
    while chunk := await process.stderr.read(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        last.extend(line.decode(errors="replace").rstrip() for line in lines)


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())


async def _report(target: Path, size_bytes: int | None, label: str, progress: Progress) -> None:
    while True:
        progress(label, await asyncio.to_thread(size_of, target), size_bytes)
        await asyncio.sleep(_PROGRESS_EVERY_S)


def size_of(path: Path) -> int:
    """Bytes in all files under ``path``; what vanishes meanwhile counts as nothing."""
    total = 0
    for root, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total


def _failure(packages: tuple[str, ...], lines: list[str], status: int | None) -> Exception:
    said = [_clean(line) for line in lines if _is_word(line)]
    code = next((line.split()[1] for line in said if re.fullmatch(r"code \S+", line)), None)
    reason = "; ".join(line for line in said if not line.startswith(("code ", "errno ", "syscall ")))[:600]
    message = f"npm could not install {' '.join(packages)}: {reason or code or f'it ended with status {status}'}"
    details = {"packages": list(packages), "npm_code": code, "npm_errors": said}
    if code == "ENOSPC":
        return DiskFull(message, hint="Free some space, or set AGENTCTL_STATE_DIR to a larger disk.", details=details)
    return InstallFailed(message, hint=_hint(code), details=details)


def _is_word(line: str) -> bool:
    """Whether a line is npm's message to people: not a stack, not the fields of an object, not the log's path."""
    match = re.match(r"npm (?:error|ERR!) ([^\s}].*)", line)
    return match is not None and not match[1].startswith(("at ", "/")) and "complete log of this run" not in line


def _clean(line: str) -> str:
    """One of npm's error lines without its prefix and without passwords in addresses."""
    return re.sub(r"//[^/@\s]+@", "//***@", re.sub(r"^npm (error|ERR!)\s?", "", line)).strip()


def _hint(code: str | None) -> str:
    if code in _OFFLINE_CODES:
        return "Check the network and the registry (`npm config get registry`), or set AGENTCTL_REGISTRY to another."
    if code in _MISSING_CODES:
        return "This registry does not have it. Check `npm config get registry`, or set AGENTCTL_REGISTRY to another."
    if code in ("E401", "E403"):
        return "The registry refuses: check the login in ~/.npmrc, or set AGENTCTL_REGISTRY to another."
    return "Run the command again; `npm config list` shows what npm is set to."
