"""Directories that appear whole or not at all: made under a temporary name beside a lock, then renamed."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TextIO

from agentctl.paths import state_errors, try_lock

_TEMPORARY = ".tmp-"
_POLL_S = 0.1


@asynccontextmanager
async def place_lock(parent: Path, progress: Callable[[str, int | None, int | None], None]) -> AsyncIterator[None]:
    """Hold the lock of ``parent``; whoever comes second waits. It is freed when its process dies, however it dies."""
    with _open_lock(parent) as lock:
        waited = False
        while not try_lock(lock.fileno()):
            if not waited:
                progress("Waiting for another install", None, None)
                waited = True
            await asyncio.sleep(_POLL_S)
        yield


def _open_lock(parent: Path) -> TextIO:
    with state_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        return (parent / ".lock").open("w")


@asynccontextmanager
async def new_place(parent: Path, name: str) -> AsyncIterator[Path]:
    """A fresh directory that becomes ``parent/name`` when the block ends well, and vanishes when it does not.

    The caller holds ``place_lock(parent)``, so that other temporary directories here are leftovers of killed installs:
    they are removed. An older ``parent/name`` is replaced.
    """
    place = parent / f"{_TEMPORARY}{secrets.token_hex(6)}"
    try:
        with state_errors(parent):
            await asyncio.to_thread(remove_leftovers, parent)
            place.mkdir()
            yield place
            await asyncio.to_thread(_replace, place, parent / name)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    for leftover in parent.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _replace(place: Path, final: Path) -> None:
    if final.exists():
        final.rename(place.with_name(f"{_TEMPORARY}old-{secrets.token_hex(6)}"))
    place.rename(final)
    remove_leftovers(final.parent)
