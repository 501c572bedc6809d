"""One agent process between many clients: their ids become ours on the way in, and theirs again on the way out.

What the agent says goes to its owner as drafts whose ``raw`` is the envelope for the clients. Notifications and
requests of the agent keep their very bytes; of an answer only the id is changed.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from agentctl.acp.connection import GARBAGE_REASONS, Connection
from agentctl.errors import AgentctlError, AgentExited, DeadlineExceeded
from agentctl.events import Draft
from agentctl.supervisor.agent_process import AgentProcess
from agentctl.supervisor.log.records import dump
from agentctl.supervisor.raw.held_back import MESSAGE, RawHeldBack
from agentctl.supervisor.redaction import Redact
from agentctl.wire import Recipe

Json = dict[str, Any]
Write = Callable[[list[Draft], bool], None]

INTERNAL_ERROR = -32603
LAST_WORDS_S = 0.5
QUIET_S = 0.2


class Open(NamedTuple):
    """A client's request on its way: the id that the client gave it, of whatever type."""

    id: Any
    method: str


class RawAgent:
    """A started agent. ``write`` gets its envelopes in order, and whether they must be durable before they are shown.

    When it dies, its last lines come first, then ``_adapter/agent_exited``, then an error for every open request; only
    then is ``ended`` done, and by then no process of it is left.
    """

    @classmethod
    async def start(
        cls,
        recipe: Recipe,
        write: Write,
        *,
        env: Mapping[str, str],
        cwd: str,
        stderr_path: Path,
        redact: Redact | None,
        held_back: RawHeldBack,
    ) -> RawAgent:
        """Spawn it, without a handshake: that is the client's. Raise ``AgentStartFailed``."""
        process = await AgentProcess.spawn(recipe.argv, env=env, cwd=cwd, stderr_path=stderr_path, redact=redact)
        return cls(recipe, process, write, held_back)

    def __init__(self, recipe: Recipe, process: AgentProcess, write: Write, held_back: RawHeldBack) -> None:
        """For ``start`` only."""
        self.created_at_ms = int(time.time() * 1000)
        self._recipe = recipe
        self._process = process
        self._write = write
        self._held_back = held_back
        self._connection = Connection(process.stdout, process.stdin, self)
        self._open: dict[int, Open] = {}
        self._asked: set[bytes] = set()
        self._drafts: list[Draft] = []
        self._durable = False
        self._heard = 0
        self._over = False
        self.ended = asyncio.create_task(self._live())

    @property
    def is_alive(self) -> bool:
        """Whether it can still be told anything."""
        return not (self._over or self._connection.is_closed or self._process.exit_code.done())

    @property
    def is_busy(self) -> bool:
        """Whether a client waits for an answer."""
        return bool(self._open)

    def send(self, frame: Json) -> None:
        """Hand over a client's frame. An answer to what the agent did not ask, or that was answered before, and the
        cancelling of what is not open, go nowhere. Raise ``AgentExited`` when it is not alive."""
        if frame.get("method") is None:
            self._answer(frame)
        elif frame["method"] == "$/cancel_request":
            self._cancel(frame)
        else:
            self._forward(frame)

    def _forward(self, frame: Json) -> None:
        our_id = self._connection.forward(frame)
        if our_id is not None:
            self._open[our_id] = Open(frame["id"], frame["method"])

    def _answer(self, frame: Json) -> None:
        key = dump(frame["id"])
        if key in self._asked:
            self._asked.remove(key)
            self._forward(frame)

    def _cancel(self, frame: Json) -> None:
        params = frame.get("params")
        wanted = dump(params.get("requestId")) if isinstance(params, dict) else b""
        ours = [number for number, opened in self._open.items() if dump(opened.id) == wanted]
        if ours and isinstance(params, dict):
            self._forward({**frame, "params": {**params, "requestId": ours[-1]}})

    async def drain(self) -> None:
        """Wait until the agent has read most of what it was sent, or is gone, but not for ever."""
        with suppress(AgentExited, DeadlineExceeded):
            await self._connection.drain()

    async def stop(self) -> None:
        """End it with all its descendants, and have its end told. Idempotent."""
        await self._process.stop(self._recipe.stop_grace_s)
        await asyncio.shield(self.ended)

    # The Handler of its connection

    def notification(self, frame: Json, line: bytes) -> None:
        self._drafts.append(Draft(MESSAGE, {"frame": frame}, raw=_envelope(frame, line)))

    def request(self, frame: Json, line: bytes) -> None:
        self._asked.add(dump(frame["id"]))
        self._drafts.append(Draft(MESSAGE, {}, raw=_envelope(frame, line)))

    def response(self, method: str, frame: Json, line: bytes) -> None:
        opened = self._open.pop(int(frame["id"]))
        self._drafts.append(Draft(MESSAGE, {}, raw=dump({**frame, "id": opened.id})))
        self._durable = self._durable or method == "session/prompt"

    def garbage(self, line: bytes, reason: str) -> None:
        said = {"error": GARBAGE_REASONS[reason], "raw": line.decode(errors="replace")}
        self._drafts.append(adapter_notice("invalid_stdout", said))

    def sent(self, frame: Json) -> None:
        """A client knows what it sent."""

    def flushed(self) -> None:
        self._heard += 1
        drafts, self._drafts = self._drafts, []
        durable, self._durable = self._durable, False
        self._write(self._held_back.passed(drafts), durable)

    def closed(self, reason: str) -> None:
        self.flushed()

    # Its life

    async def _live(self) -> None:
        reading = asyncio.create_task(self._connection.run())
        exit_code = self._process.exit_code
        ends: set[asyncio.Future[Any]] = {reading, exit_code}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        self._over = True
        if not exit_code.done():
            await asyncio.wait({exit_code}, timeout=LAST_WORDS_S)
        if not exit_code.done():  # it closed its stdout and lives on: there is nothing to be had from it any more
            await self._process.stop(self._recipe.stop_grace_s)
        await self._hear_out(reading)
        last_words = self._obituary(exit_code.result() if exit_code.done() else None)
        self._write(self._held_back.passed(last_words), True)
        await self._process.stop(self._recipe.stop_grace_s)

    async def _hear_out(self, reading: asyncio.Task[None]) -> None:
        """Read what is left. A grandchild may hold the pipe open for ever: silence is the end, too."""
        while not reading.done():
            heard = self._heard
            await asyncio.wait({reading}, timeout=QUIET_S)
            if heard == self._heard:
                self._connection.close()
                await reading

    def _obituary(self, code: int | None) -> list[Draft]:
        stderr = self._process.stderr_summary()
        exit_code = code if code is None or code >= 0 else None
        more: Json = {"stderr": stderr["tail"] or stderr["head"]}
        if code is not None and code < 0:
            more["signal"] = -code
        opened, self._open = list(self._open.values()), {}
        how = f"{self._recipe.name} {_ending(code)} before it answered"
        details = {"exitCode": exit_code, **more}
        refusals = [refusal(o.id, AgentExited(f"{how} {o.method}.", details=details)) for o in opened]
        return [adapter_notice("agent_exited", {"success": code == 0, "code": exit_code, **more}), *refusals]


def _ending(code: int | None) -> str:
    if code is None:
        return "ended"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _envelope(frame: Json, line: bytes) -> bytes:
    """The line as it came, unless an event stream or a strict JSON parser would stumble over it."""
    awkward = b"\r" in line or b"NaN" in line or b"Infinity" in line
    return dump(frame) if awkward else line


def adapter_notice(name: str, params: Json) -> Draft:
    """A notification of our own, in the peers' namespace ``_adapter/``."""
    return _said({"jsonrpc": "2.0", "method": f"_adapter/{name}", "params": params})


def refusal(request_id: Any, error: AgentctlError) -> Draft:
    """What a client gets for a request that no agent can answer any more."""
    data = {**error.details, "code": error.code, "hint": error.hint}
    rpc = {"code": INTERNAL_ERROR, "message": error.message, "data": data}
    return _said({"jsonrpc": "2.0", "id": request_id, "error": rpc})


def _said(envelope: Json) -> Draft:
    return Draft(MESSAGE, {}, "daemon", True, raw=dump(envelope))
