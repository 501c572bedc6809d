"""One raw ACP server: an agent, started when a client first speaks to it, and the durable log of what it says.

Its directory holds the log's segments, ``agent.stderr`` and ``server.json`` (``ServerFile``).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from agentctl import errors
from agentctl.events import Draft
from agentctl.supervisor.agent import agent_environment, write_missing_files
from agentctl.supervisor.configured import configured
from agentctl.supervisor.log.files import open_directory, said_as_ours
from agentctl.supervisor.log.session_log import Record, SessionLog
from agentctl.supervisor.raw.agent import RawAgent, adapter_notice, refusal
from agentctl.supervisor.raw.held_back import RawHeldBack
from agentctl.supervisor.redaction import Redact
from agentctl.wire import SANDBOX_ENV, Boot, PermissionSetup, Recipe

Json = dict[str, Any]
FILE_NAME = "server.json"


class ServerFile(NamedTuple):
    """What outlives a supervisor. ``agent`` is null once a client deleted the server; ``begin`` is then the last
    number of its log, so that whoever uses the name again starts with fresh answers and yet unused numbers."""

    agent: str | None
    cwd: str | None
    begin: int

    @classmethod
    def read(cls, directory: Path) -> ServerFile:
        """The directory's file; without one, a server that never was."""
        try:
            data = json.loads((directory / FILE_NAME).read_bytes())
            return cls(data["agent"], data["cwd"], int(data["begin"]))
        except FileNotFoundError:
            return cls(None, None, 0)
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise errors.StateError(f"Cannot read {directory / FILE_NAME}: {e}", hint="Delete this file.") from e

    def write(self, directory: Path) -> None:
        with said_as_ours(directory):
            open_directory(directory)
            temporary = directory / (FILE_NAME + ".new")
            temporary.write_text(json.dumps(self._asdict()))
            os.replace(temporary, directory / FILE_NAME)


class RawServer:
    """``deliver`` takes the clients' frames, ``follow`` tells what the agent said; ``close`` at the end."""

    def __init__(
        self,
        server_id: str,
        directory: Path,
        file: ServerFile,
        recipe: Recipe,
        boot: Boot,
        *,
        redact: Redact | None,
    ) -> None:
        """Open the log. Raise ``Conflict`` when another supervisor has it, or a ``StateError``."""
        self.id = server_id
        self.recipe = recipe
        self._directory = directory
        self._file = file
        self._boot = boot
        self._redact = redact
        self._log = SessionLog(directory, server_id, redact=redact)
        self._agent: RawAgent | None = None
        self._lock = asyncio.Lock()
        self._failure: errors.AgentctlError | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def is_live(self) -> bool:
        return self._agent is not None and self._agent.is_alive

    @property
    def is_busy(self) -> bool:
        """Whether a client waits for an answer of the agent."""
        return self._agent is not None and self._agent.is_busy

    @property
    def last_sequence(self) -> int:
        return self._log.last_sequence

    def listing(self) -> Json:
        created = self._agent.created_at_ms if self._agent else 0
        return {"serverId": self.id, "agent": self.recipe.name, "createdAtMs": created}

    async def deliver(self, frame: Json) -> None:
        """Hand a client's frame to the agent, which is started when there is none alive.

        When it cannot be started, the stream says so: ``_adapter/agent_exited``, and an error for a request's id.
        Without one, an answer or a ``$/cancel_request`` has no addressee and is dropped. Raise a ``StateError`` when
        the log could not be written any more, ``Conflict`` when the server was closed meanwhile.
        """
        frame = await configured(self._boot, self.recipe, frame)
        async with self._lock:
            if not self.is_live and frame.get("method") in (None, "$/cancel_request"):
                return
            agent = await self._living_agent(frame)
            if agent is None:
                return
            agent.send(frame)
        await agent.drain()

    async def _living_agent(self, frame: Json) -> RawAgent | None:
        if self._agent is not None and not self._agent.is_alive:
            await asyncio.shield(self._agent.ended)
            self._agent = None
        if self._failure is not None:
            raise self._failure
        if self._agent is None:
            try:
                self._agent = await self._start()
            except (errors.AgentctlError, OSError) as e:
                self._tell_failed_start(frame, e)
        return self._agent

    async def _start(self) -> RawAgent:
        recipe = self.recipe
        write_missing_files(Path(self._boot.home), recipe.files)
        if recipe.fresh_files:
            from agentctl.supervisor.fresh_files import write_fresh_files

            write_fresh_files(Path(self._boot.home), recipe.fresh_files)
        base = {**self._boot.agent_env, SANDBOX_ENV: self._boot.sandbox_id}
        return await RawAgent.start(
            recipe,
            self._write,
            env=agent_environment(base, recipe, PermissionSetup(), {}),
            cwd=self._file.cwd or self._boot.home,
            stderr_path=self._directory / "agent.stderr",
            redact=self._redact,
            held_back=RawHeldBack((*self._boot.secrets, self._boot.token)),
        )

    def _tell_failed_start(self, frame: Json, error: errors.AgentctlError | OSError) -> None:
        if isinstance(error, OSError):
            error = errors.AgentStartFailed(f"{self.recipe.name} could not be set up: {error}")
        said = [adapter_notice("agent_exited", {"success": False, "code": None, "error": error.message})]
        if "method" in frame and "id" in frame:
            said.append(refusal(frame["id"], error))
        self._write(said, True)

    def _write(self, drafts: list[Draft], durable: bool) -> None:
        """A log that cannot be written ends the agent: going on would lose what it says."""
        if self._failure is not None:
            return
        try:
            self._log.append(drafts, turn_id=None, durable=durable)
        except errors.StateError as e:
            self._failure = e
            with suppress(errors.StateError):
                self._log.close()
            if self._agent is not None:
                self._ending = asyncio.create_task(self._agent.stop())

    def follow(self, after: int | None) -> AsyncIterator[list[Record]]:
        """Pages of envelopes, in ``line`` of each record, after a number (null: all of this server), then each new
        one. Ends when the server is closed."""
        begin = self._file.begin if after is None else after
        return _envelopes(self._log.follow(begin, raw=True))

    async def close(self, *, forget: bool) -> None:
        """Stop the agent with its whole tree, end every ``follow``. With ``forget``, the name is free again."""
        async with self._lock:
            if self._agent is not None:
                await self._agent.stop()
            self._failure = self._failure or errors.Conflict(f"Server {self.id} was closed meanwhile.")
            self._log.close()
            if forget:
                ServerFile(None, None, self._log.last_sequence).write(self._directory)


async def _envelopes(pages: AsyncIterator[list[Record]]) -> AsyncIterator[list[Record]]:
    async for page in pages:
        yield [Record(record.sequence, record.raw or _log_notice(record), None) for record in page]


def _log_notice(record: Record) -> bytes:
    """What the log says of itself (a gap, a torn end) is told as well: nothing is left out in silence."""
    return b'{"jsonrpc":"2.0","method":"_adapter/log","params":' + record.line + b"}"
