"""One command in a container that runs, to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agentctl.providers.docker.bridge import TAIL_BYTES, Framed
from agentctl.providers.docker.engine import Engine

_CHUNK_BYTES = 65536
_LOOK_S = 0.02
_LOOKS = 250
_LOST = -1


class Ended(NamedTuple):
    """``said`` is the end of what it printed. The code is -1 where the engine does not tell it."""

    code: int
    said: str


async def run(
    engine: Engine,
    container: str,
    argv: Sequence[str],
    *,
    user: str = "",
    environment: Mapping[str, str] | None = None,
    workdir: str | None = None,
) -> Ended:
    """Run a command in ``container``, by default as its own user in its own environment. It takes as long as it takes:
    who waits no longer leaves it running, as the engine can end no command. Raise ``SandboxError``."""

    def make(api: Any) -> str:
        env = dict(environment) if environment is not None else None
        return str(api.exec_create(container, list(argv), user=user, environment=env, workdir=workdir)["Id"])

    made = await engine.call("run a command in a container", make)
    async with Framed(*await engine.hijack(f"/exec/{made}/start", {"Detach": False, "Tty": False})) as talk:
        said = await _end_of(talk.stdout)
        said += _whole_lines(talk.stderr, TAIL_BYTES)
    return Ended(await _code(engine, made), said.decode(errors="replace"))


async def _end_of(reader: asyncio.StreamReader) -> bytes:
    kept = b""
    while data := await reader.read(_CHUNK_BYTES):
        kept = (kept + data)[-TAIL_BYTES:]
    return _whole_lines(kept, TAIL_BYTES)


def _whole_lines(end: bytes, longest: int) -> bytes:
    """Without a line that may have been cut: it could begin in the middle of a secret, which then is not found."""
    return end if len(end) < longest else end.partition(b"\n")[2]


async def _code(engine: Engine, made: str) -> int:
    """Its streams may end a moment before it does."""
    for _ in range(_LOOKS):
        about = await engine.call("look at a command", lambda api: api.exec_inspect(made))
        if not about["Running"] and about["ExitCode"] is not None:
            return int(about["ExitCode"])
        await asyncio.sleep(_LOOK_S)
    return _LOST
