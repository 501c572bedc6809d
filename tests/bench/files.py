"""Files in and out of a sandbox over the supervisor's socket, against ``cp`` on the same disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from agentctl.supervisor.files.space import FileSpace
from agentctl.supervisor.files.tree import Files
from agentctl.supervisor_client import SupervisorClient
from agentctl.supervisor_client.files import FilesClient
from tests.bench.report import Row, compared
from tests.bench.samples import interleave
from tests.bench.supervisor import local_sandbox
from tests.bench.workshop import Workshop

SIZE = 300_000_000
GOAL_MS = 1000.0
"""300 MB in a second."""


def rows(shop: Workshop) -> Iterator[Row]:
    place = shop.directory / "files"
    place.mkdir()
    with asyncio.Runner() as runner:
        (place / "source").write_bytes(os.urandom(1_000_000) * (SIZE // 1_000_000))
        opened = local_sandbox(shop)
        provider, handle = runner.run(opened.__aenter__())
        try:
            endpoint, token = runner.run(provider.endpoint(handle))
            client = SupervisorClient(endpoint, token)
            sandbox, host = FilesClient(client, str(place)), Files(FileSpace(str(place)))
            put, get, cp = interleave(
                [
                    lambda: runner.run(_copied_ms(host, sandbox, place)),
                    lambda: runner.run(_copied_ms(sandbox, host, place)),
                    lambda: _cp_ms(place),
                ],
                shop.runs,
            )
            runner.run(client.aclose())
        finally:
            runner.run(opened.__aexit__(None, None, None))
    shutil.rmtree(place)
    yield compared("files: put 300 MB", put, cp, peer_name="cp", goal=GOAL_MS)
    yield compared("files: get 300 MB", get, cp, peer_name="cp", goal=GOAL_MS)


async def _copied_ms(source: Files | FilesClient, target: Files | FilesClient, place: Path) -> float:
    """From one side to the other; the copy takes the place of the last one, as with ``cp``."""
    started = time.perf_counter()
    async with source.read("source") as reading:
        await target.write("copy", reading.chunks, size=reading.size)
    spent_ms = (time.perf_counter() - started) * 1000
    assert (place / "copy").stat().st_size == SIZE
    return spent_ms


def _cp_ms(place: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["cp", "--reflink=never", place / "source", place / "copy"], check=True)
    return (time.perf_counter() - started) * 1000
