"""A bare ACP client, to prove the agents without any of our own code in between."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from agentctl.supervisor.processes import descendants

Json = dict[str, Any]

_LINE_BYTES = 64 * 1024 * 1024
_CAPABILITIES = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}


class AgentError(Exception):
    """The agent answered a request with a JSON-RPC error."""

    def __init__(self, error: Json) -> None:
        super().__init__(error["message"])
        self.error = error


class RawAgent:
    """One running agent. ``updates`` holds every session/update since the last prompt; ``asked`` every permission;
    ``info`` is how it introduced itself."""

    def __init__(self, process: asyncio.subprocess.Process, answer_kind: str) -> None:
        self.process = process
        self.updates: list[Json] = []
        self.asked: list[Json] = []
        self.info: Json = {}
        self._answer_kind = answer_kind
        self._answers: dict[int, asyncio.Future[Json]] = {}
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def call(self, method: str, params: Json, timeout_s: float = 110) -> Json:
        """Send a request and wait for its result; AgentError for an error."""
        number = len(self._answers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        self._send({"id": number, "method": method, "params": params})
        return await asyncio.wait_for(self._answers[number], timeout_s)

    def notify(self, method: str, params: Json) -> None:
        self._send({"method": method, "params": params})

    async def start(self) -> None:
        answer = await self.call("initialize", {"protocolVersion": 1, "clientCapabilities": _CAPABILITIES})
        self.info = answer["agentInfo"]

    async def new_session(self, cwd: Path, mcp_servers: list[Json] | None = None) -> str:
        result = await self.call("session/new", {"cwd": str(cwd), "mcpServers": mcp_servers or []})
        return result["sessionId"]

    async def prompt(self, session: str, text: str) -> Json:
        self.updates.clear()
        return await self.call("session/prompt", {"sessionId": session, "prompt": [{"type": "text", "text": text}]})

    async def wait_for_update(self, wanted: Callable[[Json], bool], timeout_s: float = 60) -> None:
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: any(map(wanted, self.updates)))

    def text(self, kind: str = "agent_message_chunk") -> str:
        """All chunks of one kind since the last prompt."""
        return "".join(update["content"]["text"] for update in self.updates if update["sessionUpdate"] == kind)

    def _send(self, message: Json) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            await self._take(json.loads(line))
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(EOFError("the agent closed its output"))

    async def _take(self, message: Json) -> None:
        if "method" not in message:
            answer = self._answers[message["id"]]
            if "error" in message:
                answer.set_exception(AgentError(message["error"]))
            else:
                answer.set_result(message["result"])
        elif message["method"] == "session/update":
            async with self._changed:
                self.updates.append(message["params"]["update"])
                self._changed.notify_all()
        elif message["method"] == "session/request_permission":
            self._answer_permission(message)
        elif "id" in message:
            self._send({"id": message["id"], "error": {"code": -32601, "message": "not offered"}})

    def _answer_permission(self, message: Json) -> None:
        self.asked.append(message["params"])
        options = message["params"]["options"]
        chosen = next(option["optionId"] for option in options if option["kind"] == self._answer_kind)
        outcome = {"outcome": "selected", "optionId": chosen}
        self._send({"id": message["id"], "result": {"outcome": outcome}})

    async def end(self) -> None:
        """Kill the agent and all its descendants: some start sessions of their own, so a group kill is not enough."""
        for process in descendants(self.process.pid):
            process.signal(signal.SIGKILL)
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        await self._reading
        for answer in self._answers.values():
            if answer.done() and not answer.cancelled():
                answer.exception()


@asynccontextmanager
async def raw_agent(
    argv: list[str], environment: dict[str, str], cwd: Path, *, answer_kind: str = "allow_once"
) -> AsyncIterator[RawAgent]:
    """A started and initialized agent that answers every permission with the option of ``answer_kind``."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=cwd,
        env=environment,
        limit=_LINE_BYTES,
        start_new_session=True,
    )
    agent = RawAgent(process, answer_kind)
    try:
        await agent.start()
        yield agent
    finally:
        await agent.end()
