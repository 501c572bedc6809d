"""A session inside the supervisor: its log, its agent, its turns, its open requests.

Nothing that a client does, short of asking, ends a turn: all of this lives here and not in a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.acp.translate import Translator
from agentctl.events import Draft
from agentctl.supervisor import settings
from agentctl.supervisor.agent import Agent, Opened, agent_environment, write_missing_files
from agentctl.supervisor.inbox import Inbox
from agentctl.supervisor.log import SessionLog
from agentctl.supervisor.log_records import without_surrogates
from agentctl.supervisor.redaction import Redact
from agentctl.supervisor.requests import RequestDesk
from agentctl.supervisor.session_request import SessionRequest
from agentctl.supervisor.turns import Turns
from agentctl.wire import SANDBOX_ENV, Boot, Recipe

if TYPE_CHECKING:
    from agentctl.model import OnLost

Json = dict[str, Any]
START_LIMIT_S = 170.0
"""For a start as a whole, whatever its steps may take: less than a caller waits for the answer to its create."""


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
        self._boot = boot
        self._redact = redact
        directory = Path(boot.log_root)
        self._stderr_path = directory / "agent.stderr"
        self.log = SessionLog(directory, session_id, min_sequence=self.request.min_sequence, redact=redact)
        self.translator = Translator(first_item=self.log.last_sequence + 1)
        self.inbox = Inbox(self)
        self.turns = Turns(self)
        self.desk = RequestDesk(
            respond=self._respond, emit=lambda draft: self.write([draft]), denied=self.turns.denied, changed=touch
        )
        self.agent: Agent | None = None
        self.native_session_id = self.request.native_session_id
        self.context = "new"
        self.mode_before: str | None = None
        """The mode to go back to after a turn with stricter permissions than the session's."""
        self.usage: Json | None = None
        self.cost: Json | None = None
        self.failure: errors.AgentctlError | None = None
        self._starting: asyncio.Task[Agent] | None = None
        self._closed = False

    @property
    def is_busy(self) -> bool:
        return self.turns.running is not None or self._starting is not None

    @property
    def status(self) -> str:
        if self.failure is not None:
            return "failed"
        if self._starting is not None:
            return "starting"
        if self.turns.running is not None:
            return "waiting" if self.desk.pending else "busy"
        return "idle" if self.agent is not None else "dead"

    def write(self, drafts: Sequence[Draft], *, durable: bool = False) -> None:
        """Append the inbox's collected drafts and these, in that order, as one write that belongs to the running turn.

        A log that cannot be written ends the session: going on would lose what the agent says.
        """
        drafts = [*self.inbox.take(), *drafts]
        if not drafts or self.failure is not None:
            return
        turn = self.turns.running
        try:
            self.log.append(
                drafts, turn_id=turn.id if turn else None, native_session_id=self.native_session_id, durable=durable
            )
        except errors.StateError as e:
            self._fail(e)

    def unreadable(self, error: errors.StateError) -> None:
        """A reader could not read the log. It may be the first to find that it was deleted: that ends the session."""
        if not self._stderr_path.parent.is_dir():
            self._fail(error)

    def _fail(self, error: errors.StateError) -> None:
        if self.failure is None:
            self.failure = error
            with suppress(errors.StateError):  # it will not be synced either
                self.log.close()
            self.kill_agent()

    async def start(self) -> None:
        """Start the agent and open its session. On an error the log says it and the agent is gone."""
        if self.request.interrupted_turn_id:
            self.turns.close_interrupted(self.request.interrupted_turn_id)
        try:
            await self.ensure_agent()
        except errors.AgentctlError as e:
            self.write([Draft("error", {"message": e.message, "code": e.code, "details": e.details}, "daemon")])
            raise

    async def ensure_agent(self) -> Agent:
        """The running agent, started when there is none: one start, for which everybody waits who asks meanwhile.

        Whoever gives up waiting does not stop it. Raise what starting it raises.
        """
        if self.failure is not None:
            raise self.failure
        if self._closed:
            raise errors.SandboxError("The session was ended in its sandbox.")
        if self._starting is None:
            if self.agent is not None and not self.agent.is_leaving:
                return self.agent
            self._starting = asyncio.create_task(self._start_agent())
            self._starting.add_done_callback(_look_at_the_error)
        starting = self._starting
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise errors.SandboxError("The sandbox was ended while the agent was starting.") from None
            raise

    async def _start_agent(self) -> Agent:
        try:
            if self.agent is not None:
                await self.bury(self.agent)  # the one before: two at once would be two writers of one conversation
            self.inbox.hold(True)
            async with asyncio.timeout(START_LIMIT_S):
                return await self._connect()
        except TimeoutError as e:
            await self._give_up()
            raise errors.DeadlineExceeded(f"{self.recipe.name} was not ready within {START_LIMIT_S:g} s.") from e
        except BaseException:
            await self._give_up()
            raise
        finally:
            self._starting = None
            self.touch()

    async def _give_up(self) -> None:
        self.inbox.hold(False)
        if self.agent is not None:
            await self.bury(self.agent)

    async def _connect(self) -> Agent:
        request, recipe = self.request, self.recipe
        setup = settings.permission_setup(recipe, request.permissions)
        write_missing_files(Path(self._boot.home), recipe.files)
        given = dict(request.env)
        if request.model and recipe.model_env:
            given.setdefault(recipe.model_env, request.model)
        base = {**self._boot.agent_env, SANDBOX_ENV: self._boot.sandbox_id}
        env = agent_environment(base, recipe, setup, given)
        self.agent = agent = await Agent.start(
            recipe, self.inbox, env=env, cwd=request.cwd, stderr_path=self._stderr_path, redact=self._redact
        )
        self.translator = Translator(first_item=self.translator.next_item, config=agent.client.config)
        if self.native_session_id is not None:
            self.translator.begin_replay()
        opened = await agent.open_session(
            request.cwd, request.mcp_servers, self.native_session_id, request.created_at, self._on_lost
        )
        if recipe.replay_after_response and self.native_session_id is not None:
            await self.inbox.quiet()
        self.translator.end_replay()  # what it closes was read over as well
        self._opened(agent, opened)
        await settings.apply(self, agent.client, setup)
        if self.failure is not None:
            raise self.failure
        if agent.connection.is_closed:
            raise errors.AgentStartFailed(
                f"{recipe.name} ended right after its start.", details={"stderr": agent.process.stderr_summary()}
            )
        return agent

    @property
    def _on_lost(self) -> OnLost:
        """What the message says that the agent is started for, else what the session was created with."""
        turn = self.turns.running
        return (turn.message.on_lost if turn else None) or self.request.on_lost

    def _opened(self, agent: Agent, opened: Opened) -> None:
        first = self.native_session_id is None
        self.native_session_id, self.context = opened.native_session_id, opened.context
        facts = {
            "agent": self.recipe.name,
            "agentInfo": agent.client.agent_info,
            "capabilities": agent.client.capabilities,
            "context": opened.context,
            "cwd": self.request.cwd,
            "pid": agent.process.pid,
        }
        drafts = [Draft("session.started" if first else "sandbox.agent_started", {"metadata": facts}, "daemon")]
        if opened.context == "lost":
            if self._on_lost == "replay":
                self.context = "replayed"
            lost = {"reason": "; ".join(opened.tried), "tried": opened.tried, "action": self._on_lost}
            drafts.insert(0, Draft("session.context_lost", lost, "daemon"))
        self.write(drafts)
        self.inbox.hold(False)
        self.write([])

    def agent_left(self) -> None:
        """The connection ended: whoever was waiting is told, the rest of the process tree is ended."""
        if self.agent is not None and self._starting is None:
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

    async def close(self, reason: str) -> None:
        """End the running turn as interrupted, stop the agent, close the log. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self.turns.interrupt()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
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

    def _respond(self, rpc_id: Any, result: Json) -> None:
        if self.agent is not None:
            self.agent.connection.respond(rpc_id, result)

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
            "ended": self._closed,
            "eventCount": self.log.last_sequence,
            "turnId": running.id if running else None,
            "lastTurn": self.turns.last,
            "context": self.context,
            "agentInfo": client.agent_info if client else None,
            "capabilities": client.capabilities if client else None,
            "configOptions": config.options,
            "modes": config.modes,
            "requests": self.desk.pending,
            "usage": self.usage,
            "cost": self.cost,
            "cwd": self.request.cwd,
            "error": self.failure.to_json() if self.failure else None,
        }
        snapshot: Json = without_surrogates(said)  # it goes out as UTF-8
        return snapshot


def _look_at_the_error(start: asyncio.Task[Agent]) -> None:
    """A start that nobody waits for any more may fail in peace: the log of whoever asks next will say it."""
    if not start.cancelled():
        start.exception()
