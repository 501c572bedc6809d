"""A session inside the supervisor: its log, its agent, its turns, its open requests.

Nothing that a client does, short of asking, ends a turn: all of this lives here and not in a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentctl import errors
from agentctl.acp.translate import Translator
from agentctl.events import Draft
from agentctl.supervisor import settings
from agentctl.supervisor.agent import Agent
from agentctl.supervisor.held_back import HeldBack
from agentctl.supervisor.inbox import Inbox
from agentctl.supervisor.log.records import without_surrogates
from agentctl.supervisor.log.session_log import SessionLog
from agentctl.supervisor.meter import Meter
from agentctl.supervisor.redaction import Redact
from agentctl.supervisor.requests import RequestDesk
from agentctl.supervisor.session_request import SessionRequest
from agentctl.supervisor.starter import Starter
from agentctl.supervisor.turns import Turns
from agentctl.wire import Boot, Recipe

Json = dict[str, Any]


class Session:
    """One conversation. All methods run on the event loop; ``start`` before anything else, ``close`` at the end."""

    def __init__(
        self,
        session_id: str,
        recipe: Recipe,
        request: Json,
        boot: Boot,
        *,
        redact: Redact | None,
        touch: Callable[[], None],
    ) -> None:
        self.id = session_id
        self.recipe = recipe
        self.request = SessionRequest.from_json(request)
        self.touch = touch
        directory = Path(boot.log_root)
        if self.request.log_name is not None:  # several sessions share the sandbox
            directory = directory / "sessions" / self.request.log_name
        self._stderr_path = directory / "agent.stderr"
        fencing = (request.get("launch") or {}).get("fencing", boot.fencing)
        self.log = SessionLog(
            directory, session_id, min_sequence=self.request.min_sequence, fencing=fencing, redact=redact
        )
        self._held_back = HeldBack((*boot.secrets, boot.token))
        self.translator = Translator(first_item=self.log.last_sequence + 1)
        self.inbox = Inbox(self)
        self.turns = Turns(self)
        self.desk = RequestDesk(
            respond=self.inbox.respond, emit=lambda draft: self.write([draft]), denied=self.turns.denied, changed=touch
        )
        self.agent: Agent | None = None
        self.native_session_id = self.request.native_session_id
        self.context = "new"
        self.mode_before: str | None = None
        """The mode to go back to after a turn with stricter permissions than the session's."""
        self.meter = Meter()
        self.failure: errors.AgentctlError | None = None
        self.is_closed = False
        self.starter = Starter(self, boot, self._stderr_path, redact)

    @property
    def is_busy(self) -> bool:
        """Whether there is work that a sandbox has to live for; a failed session begins none of what is queued."""
        waiting = bool(self.turns.queue) and self.failure is None
        return self.turns.running is not None or waiting or self.starter.is_starting

    @property
    def status(self) -> str:
        if self.failure is not None:
            return "failed"
        if self.starter.is_starting:
            return "starting"
        running = self.turns.running
        if running is not None and running.stalled:
            return "stalled"
        if self.turns.is_busy:
            return "waiting" if self.desk.pending else "busy"
        return "idle" if self.agent is not None else "dead"

    def write(self, drafts: Sequence[Draft], *, durable: bool = False) -> None:
        """Append the inbox's collected drafts and these, in that order, as one write that belongs to the running turn.

        A log that cannot be written ends the session: going on would lose what the agent says.
        """
        turn = self.turns.running
        drafts = self._held_back.passed([*self.inbox.take(), *drafts])
        self._append(drafts, turn.id if turn else None, durable)

    def write_apart(self, drafts: Sequence[Draft], *, turn_id: str | None) -> None:
        """Write, durably, what belongs to another turn than the running one, or to none."""
        self.write([])
        self._append(drafts, turn_id, durable=True)

    def _append(self, drafts: Sequence[Draft], turn_id: str | None, durable: bool) -> None:
        if not drafts or self.failure is not None:
            return
        try:
            self.log.append(drafts, turn_id=turn_id, native_session_id=self.native_session_id, durable=durable)
        except (errors.StateError, errors.LeaseLost) as e:
            self.fail(e)

    def unreadable(self, error: errors.StateError) -> None:
        """A reader could not read the log. It may be the first to find that it was deleted: that ends the session."""
        if not self._stderr_path.parent.is_dir():
            self.fail(error)

    def fail(self, error: errors.StateError | errors.LeaseLost) -> None:
        """Its log may or can not be written any more."""
        if self.failure is None:
            self.failure = error
            with suppress(errors.StateError):  # it will not be synced either
                self.log.close()
            self.kill_agent()

    async def start(self) -> None:
        """Start the agent and open its session. On an error the log says it and the agent is gone; what was queued
        stays queued in the log."""
        self.turns.queue.recover()
        try:
            await self.ensure_agent()
        except errors.AgentctlError as e:
            self.write([Draft("error", {"message": e.message, "code": e.code, "details": e.details}, "daemon")])
            raise
        self.turns.advance()

    async def ensure_agent(self) -> Agent:
        """The running agent, started when there is none. Raise what starting it raises."""
        return await self.starter.ensure()

    def agent_left(self) -> None:
        """The connection ended: whoever was waiting is told, the rest of the process tree is ended."""
        if self.agent is not None and not self.starter.is_starting:
            self._burial(self.agent)

    async def bury(self, agent: Agent) -> Json:
        """End what is left of this agent, once, and say in the log how it ended: ``{"exit_code", "stderr", "how"}``."""
        return await asyncio.shield(self._burial(agent))

    def kill_agent(self) -> None:
        """End the agent without asking: its death fails the prompt, which ends the turn."""
        if self.agent is not None:
            self._burial(self.agent)

    def _burial(self, agent: Agent) -> asyncio.Task[Json]:
        if agent.burial is None:
            agent.burial = asyncio.create_task(self._bury(agent))
        return agent.burial

    async def _bury(self, agent: Agent) -> Json:
        ending = await agent.stop()
        if self.agent is agent:
            self.agent = None
        self.desk.drop_all()
        facts = {"exit_code": ending.exit_code, "how": ending.how, "stderr": agent.process.stderr_summary()}
        self.write([Draft("sandbox.agent_exited", facts, "daemon")])
        return facts

    async def terminate(self) -> None:
        """End the session itself: queued turns are cancelled. Idempotent."""
        if not self.is_closed:
            self.turns.cancel_queued()
            await self.close("terminated")

    async def close(self, reason: str) -> None:
        """End the running turn as interrupted, stop the agent, close the log. Idempotent.

        Queued turns stay queued in the log: their callers were told so, and the next supervisor begins them.
        """
        if self.is_closed:
            return
        self.is_closed = True
        await self.turns.interrupt()
        await self.starter.abandon()
        if self.agent is not None:
            await self.bury(self.agent)
        if reason == "terminated":
            self.write([Draft("session.ended", {"reason": "terminated", "terminated_by": "daemon"}, "daemon")])
        else:
            self.write([Draft(f"sandbox.{reason}", {}, "daemon")])
        with suppress(errors.StateError):  # a log that cannot be synced any more must not keep the sandbox alive
            self.log.close()

    async def configure(self, changes: Json) -> None:
        """Apply changes to the live agent and keep them for its next start. Raise ``UsageError``, ``Unsupported``."""
        agent = await self.ensure_agent()
        await settings.change(self, agent.client, changes)

    async def call(self, method: str, params: Json, timeout_s: float) -> Json:
        """One raw ACP request in this session. Raise what the agent's error maps to."""
        agent = await self.ensure_agent()
        return await agent.client.call(method, {"sessionId": self.native_session_id, **params}, timeout_s=timeout_s)

    def snapshot(self) -> Json:
        """The Snapshot of ``wire.py``."""
        config = self.translator.config
        client = self.agent.client if self.agent else None
        running = self.turns.running
        said = {
            "sessionId": self.id,
            "agent": self.recipe.name,
            "agentMode": config.mode,
            "permissionMode": self.request.permissions,
            "model": config.model,
            "thoughtLevel": config.thought_level,
            "title": config.title,
            "nativeSessionId": self.native_session_id,
            "status": self.status,
            "ended": self.is_closed,
            "eventCount": self.log.last_sequence,
            "turnId": running.id if running else None,
            "queue": self.turns.queue.to_json(),
            "lastTurn": self.turns.last,
            "context": self.context,
            "agentInfo": client.agent_info if client else None,
            "capabilities": client.capabilities if client else None,
            "configOptions": config.options,
            "modes": config.modes,
            "requests": self.desk.pending,
            "usage": self.meter.usage,
            "cost": self.meter.cost,
            "cwd": self.request.cwd,
            "error": self.failure.to_json() if self.failure else None,
        }
        snapshot: Json = without_surrogates(said)  # it goes out as UTF-8
        return snapshot
