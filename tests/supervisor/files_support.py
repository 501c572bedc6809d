"""A supervisor whose files are used as a client does, and tars that no honest packer makes."""

from __future__ import annotations

import contextlib
import io
import tarfile

from agentctl.supervisor_client.files import FilesClient
from tests.supervisor.support import supervisor


@contextlib.asynccontextmanager
async def files(tmp_path, **boot):
    """``(FilesClient, transport)``; relative paths begin at ``tmp_path / "project"``."""
    async with supervisor(tmp_path, **boot) as running, running.client() as client:
        yield FilesClient(client, str(tmp_path / "project")), client


async def one(*chunks: bytes):
    """A body of these chunks."""
    for chunk in chunks:
        yield chunk


async def content(client, path) -> bytes:
    async with client.read(path) as reading:
        return b"".join([chunk async for chunk in reading.chunks])


async def packed(client, path) -> bytes:
    async with client.pack(path) as chunks:
        return b"".join([chunk async for chunk in chunks])


def tar(*members, format=tarfile.GNU_FORMAT) -> bytes:
    """``(name, content)``, or ``(name, kind, link or None)`` for anything else than a file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, *rest in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            data = b""
            if isinstance(rest[0], bytes) and len(rest) == 1:
                data = rest[0]
                info.size = len(data)
            else:
                info.type, info.linkname = rest[0], rest[1] or ""
                info.mode = 0o755
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def left_in(directory) -> list[str]:
    """Everything below a directory, so that a test sees what was left."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
