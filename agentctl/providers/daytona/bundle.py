"""The supervisor's bundle as one archive, named by its content: a snapshot that has it already is not sent it again."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import secrets
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from agentctl.paths import StatePaths, state_errors
from agentctl.providers.bootstrap import ensure_runtime
from agentctl.providers.trees import make_private_directory, remove_tree

_COMPRESSION = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """``key`` is the same on every machine that has the same files of agentctl and of its libraries."""

    key: str
    path: Path

    def archive(self) -> bytes:
        return self.path.read_bytes()


async def bundle_of(paths: StatePaths, cache_tag: str) -> Bundle:
    """For an interpreter that keeps its compiled files under ``cache_tag``; they are in it when ours does so too, else
    each start compiles it, which costs 140 ms. Made when it is missing."""
    return await asyncio.to_thread(_bundle_of, paths, cache_tag)


def _bundle_of(paths: StatePaths, cache_tag: str) -> Bundle:
    runtime = ensure_runtime(paths)
    compiled = cache_tag == sys.implementation.cache_tag
    shelf = paths.daytona / "runtime" / runtime.name
    with state_errors(shelf):
        for path in shelf.glob(f"{cache_tag if compiled else 'source'}-*.tgz"):
            return Bundle(key=path.stem, path=path)
        files = sorted(_files(runtime, compiled))
        digest = hashlib.sha256()
        for path in files:
            if path.suffix == ".py":
                digest.update(f"{path.relative_to(runtime)}\0".encode() + path.read_bytes() + b"\0")
        key = f"{cache_tag if compiled else 'source'}-{digest.hexdigest()[:20]}"
        for old in (paths.daytona / "runtime").glob("*"):
            if old.name != runtime.name:
                remove_tree(old)
        make_private_directory(shelf)
        new = shelf / f".{key}.{secrets.token_hex(6)}"  # several of one process may make it at once
        new.write_bytes(_packed(runtime, files, key))
        return Bundle(key=key, path=new.rename(shelf / f"{key}.tgz"))


def _files(runtime: Path, compiled: bool) -> list[Path]:
    suffixes = (".py", ".pyc") if compiled else (".py",)
    return [path for path in runtime.rglob("*") if path.suffix in suffixes]


def _packed(runtime: Path, files: list[Path], key: str) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=_COMPRESSION, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for path in files:
            _add(tar, str(path.relative_to(runtime)), path.read_bytes())
        _add(tar, "key", key.encode())
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))
