"""A sandbox's processes from the host: run, start, follow, feed, end. Shapes are those of ``wire.py``'s ProcessInfo."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from agentctl import errors
from agentctl.supervisor_client.transport import CALL_TIMEOUT_S, SILENCE_TIMEOUT_S, Transport

Json = dict[str, Any]
INPUT_BYTES = 64 * 1024
"""The most that a supervisor takes at once, unless it was told otherwise."""


class Output(NamedTuple):
    """A piece of a process's output. ``sequence`` is what ``since`` counts."""

    sequence: int
    stream: str
    data: bytes


class Missing(NamedTuple):
    """Output that is not there any more: all before number ``first``, or ``lost`` bytes for which there was no room."""

    first: int | None
    lost: int | None


class Ended(NamedTuple):
    """The process has ended and all its output has been told."""

    info: Json


Told = Output | Missing | Ended


class Processes:
    """The processes of one sandbox. Every method may raise what ``Transport`` raises, and ``ProcessNotFound``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def run(self, body: Json) -> Json:
        """A ProcessRunRequest to its ProcessRunResponse."""
        timeout_s = (body.get("timeoutMs") or 300_000) / 1000
        return await self._transport.request("POST", "/v1/processes/run", body, timeout_s=timeout_s + CALL_TIMEOUT_S)

    async def create(self, body: Json) -> Json:
        """Raise ``SpawnFailed``, ``AlreadyExists``, ``Conflict`` when too many run."""
        return await self._transport.request("POST", "/v1/processes", body)

    async def listing(self) -> list[Json]:
        found: list[Json] = (await self._transport.request("GET", "/v1/processes"))["processes"]
        return found

    async def get(self, process_id: str) -> Json:
        return await self._transport.request("GET", _path(process_id))

    async def delete(self, process_id: str) -> None:
        await self._transport.request("DELETE", _path(process_id))

    async def stop(self, process_id: str, *, signal: str = "TERM", grace_s: float = 5.0) -> Json:
        """The signal to all of it, KILL to what is left after ``grace_s``; the process as it is then."""
        query = {"signal": signal, "graceMs": round(grace_s * 1000), "waitMs": round((grace_s + 5) * 1000)}
        path = f"{_path(process_id)}/stop?{urlencode(query)}"
        return await self._transport.request("POST", path, {}, timeout_s=grace_s + CALL_TIMEOUT_S)

    async def kill(self, process_id: str) -> Json:
        return await self._transport.request("POST", f"{_path(process_id)}/kill?waitMs=5000", {})

    async def write(self, process_id: str, data: bytes, *, end: bool = False) -> None:
        """Give it all of ``data``, however long it takes to read it, and then, with ``end``, the end of its input.

        Raise ``Conflict`` when it reads no more, or has ended.
        """
        view = memoryview(data)
        while True:
            part = view[:INPUT_BYTES]
            body = {
                "data": base64.b64encode(part).decode(),
                "encoding": "base64",
                "eof": end and len(part) == len(view),
            }
            written = (await self._transport.request("POST", f"{_path(process_id)}/input", body))["bytesWritten"]
            is_last, view = len(part) == len(view) and written == len(part), view[written:]
            if is_last:
                return

    async def resize(self, process_id: str, rows: int, cols: int) -> None:
        await self._transport.request("POST", f"{_path(process_id)}/terminal/resize", {"rows": rows, "cols": cols})

    async def limits(self, changes: Json | None = None) -> Json:
        """The limits, after some were changed."""
        limits = await self._transport.request("GET", "/v1/processes/config")
        if changes:
            limits = await self._transport.request("POST", "/v1/processes/config", {**limits, **changes})
        return limits

    async def logs(self, process_id: str, **query: Any) -> AsyncGenerator[Told, None]:
        """What is kept of its output: ``stream``, ``since``, ``tail`` (entries), ``tailLines``."""
        answer = await self._transport.request("GET", f"{_path(process_id)}/logs{_query(query)}")
        if answer.get("truncated"):
            yield Missing(answer["firstSequence"], None)
        if answer.get("lostBytes"):
            yield Missing(None, answer["lostBytes"])
        for entry in answer["entries"]:
            yield Output(entry["sequence"], entry["stream"], base64.b64decode(entry["data"]))

    async def follow(self, process_id: str, *, attach: bool = False, **query: Any) -> AsyncGenerator[list[Told], None]:
        """Its output, then what comes, until it has ended. An attached reader misses nothing, for the process waits
        for it; and ``Ended`` is the last that it is told. A broken connection is opened again."""
        since = query.pop("since", None)
        while True:
            try:
                async with aclosing(self._follow_once(process_id, since, attach, query)) as batches:
                    async for batch in batches:
                        yield batch
                        numbers = [told.sequence for told in batch if isinstance(told, Output)]
                        since = numbers[-1] if numbers else since
                return
            except errors.SupervisorUnreachable:
                if since is None:
                    raise
                await self.get(process_id)  # raises when the supervisor is gone for good
                query.pop("tail", None), query.pop("tailLines", None)

    async def _follow_once(
        self, process_id: str, since: int | None, attach: bool, query: Json
    ) -> AsyncGenerator[list[Told], None]:
        given = {**query, "since": since, "follow": "true", "attach": "true" if attach else None}
        path = f"{_path(process_id)}/logs{_query(given)}"
        async with self._transport.open("GET", path, timeout_s=SILENCE_TIMEOUT_S) as response:
            rest = b""
            async for chunk in response.aiter_stream():
                blocks = (rest + chunk if rest else chunk).split(b"\n\n")
                rest = blocks.pop()
                if batch := list(_told(blocks)):
                    yield batch


def _path(process_id: str) -> str:
    return f"/v1/processes/{quote(process_id, safe='')}"


def _query(given: Json) -> str:
    said = {name: value for name, value in given.items() if value is not None}
    return f"?{urlencode(said)}" if said else ""


def _told(blocks: list[bytes]) -> Iterator[Told]:
    for block in blocks:
        start = block.find(b"data: ")
        if start < 0 or block.startswith(b":"):
            continue
        body = json.loads(block[start + 6 :])
        if block.startswith(b"event: log"):
            yield Output(body["sequence"], body["stream"], base64.b64decode(body["data"]))
        elif block.startswith(b"event: exit"):
            yield Ended(body)
        elif block.startswith(b"event: truncated"):
            yield Missing(body.get("firstSequence"), body.get("lostBytes"))
