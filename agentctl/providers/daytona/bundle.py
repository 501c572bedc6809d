"""The supervisor's bundle in few files, named by what is in them: a snapshot that has them is not sent them again."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import suppress
from pathlib import Path

from agentctl.frozen import frozen
from agentctl.paths import StatePaths, state_errors
from agentctl.providers.bootstrap import ensure_runtime
from agentctl.providers.packed import packed
from agentctl.providers.trees import make_private_directory, remove_tree

KEY = "key"
"""The file that is sent as the last: where it is, the others are."""


@frozen
class Bundle:
    """``key`` is the same on every machine that has the same files of agentctl and of its libraries."""

    key: str
    path: Path

    def files(self) -> list[Path]:
        """In the order in which they are sent."""
        return sorted(self.path.iterdir(), key=lambda path: (path.name == KEY, path.name))


async def bundle_of(paths: StatePaths) -> Bundle:
    """Made when it is missing. Where there is another Python than ours, each start compiles it, which costs 140 ms."""
    return await asyncio.to_thread(_bundle_of, paths)


def _bundle_of(paths: StatePaths) -> Bundle:
    runtime = ensure_runtime(paths)
    shelf = paths.daytona / "runtime" / runtime.name
    with state_errors(shelf):
        for path in shelf.glob("packed-*"):
            return Bundle(key=path.name, path=path)
        key = f"packed-{_digest(runtime)[:20]}"
        for old in (paths.daytona / "runtime").glob("*"):
            if old.name != runtime.name:
                remove_tree(old)
        make_private_directory(shelf)
        return Bundle(key=key, path=_written(shelf / key, {**packed(runtime), KEY: key.encode()}))


def _digest(runtime: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(runtime.rglob("*.py")):
        digest.update(f"{path.relative_to(runtime)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _written(target: Path, files: dict[str, bytes]) -> Path:
    """Whole or not at all; several of one process may do it at once."""
    new = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    new.mkdir()
    for name, content in files.items():
        (new / name).write_bytes(content)
    with suppress(OSError):  # another was faster, and that one's is as good
        new.rename(target)
    remove_tree(new)
    return target
