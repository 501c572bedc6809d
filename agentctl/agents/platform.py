"""This machine in the words of npm's platform packages."""

from __future__ import annotations

import functools
import platform as host
import sys
from pathlib import Path

from agentctl.paths import StatePaths

_CPUS = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}


@functools.cache
def npm_platform() -> str:
    """``linux-x64``, ``linux-arm64``, ``linux-x64-musl``, ``darwin-arm64``, …"""
    return name_of(sys.platform, host.machine(), musl=is_musl())


def name_of(system: str, machine: str, *, musl: bool) -> str:
    cpu = _CPUS.get(machine.lower(), machine.lower())
    return f"{system}-{cpu}" + ("-musl" if musl and system == "linux" else "")


def npm_flags(platform: str | None) -> tuple[str, ...]:
    """What makes npm install for ``platform`` (a ``npm_platform``; None is this machine's)."""
    if platform is None:
        return ()
    system, cpu, *musl = platform.split("-")
    libc = (f"--libc={'musl' if musl else 'glibc'}",) if system == "linux" else ()
    return (f"--os={system}", f"--cpu={cpu}", *libc)


def agents_root(paths: StatePaths, platform: str | None) -> Path:
    """Where agents for ``platform`` lie on this host (None is this machine's)."""
    return paths.agents if platform in (None, npm_platform()) else paths.agents_for(str(platform))


@functools.cache
def is_musl() -> bool:
    """Whether this Linux uses musl (Alpine): Node and the agents ship other binaries for it."""
    return sys.platform == "linux" and any(Path("/lib").glob("ld-musl-*"))
