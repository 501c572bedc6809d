"""How a session comes by its agent: one start for all who wait, within its time, set up as the session wants it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.acp.translate import Translator
from agentctl.events import Draft
from agentctl.supervisor import settings
from agentctl.supervisor.agent import Agent, Opened, agent_environment, write_missing_files
from agentctl.supervisor.configured import install_skills, mcp_servers
from agentctl.supervisor.transcript import has_words
from agentctl.wire import SANDBOX_ENV, Boot, PermissionSetup

if TYPE_CHECKING:
    from agentctl.model import OnLost
    from agentctl.supervisor.redaction import Redact
    from agentctl.supervisor.session import Session

Json = dict[str, Any]
START_LIMIT_S = 170.0
"""For a start as a whole where the session names no time: less than a caller waits for the answer to its create."""


class Starter:
    """Starts the agent of a session, and climbs with it to the session's conversation."""

    def __init__(self, session: Session, boot: Boot, stderr_path: Path, redact: Redact | None) -> None:
        self._session = session
        self._boot = boot
        self._stderr_path = stderr_path
        self._redact = redact
        self._starting: asyncio.Task[Agent] | None = None

    @property
    def is_starting(self) -> bool:
        return self._starting is not None

    async def ensure(self) -> Agent:
        """The running agent, started when there is none: one start, for which everybody waits who asks meanwhile.

        Whoever gives up waiting does not stop it. Raise what starting it raises.
        """
        session = self._session
        if session.failure is not None:
            raise session.failure
        if session.is_closed:
            raise errors.SandboxError("The session was ended in its sandbox.")
        if self._starting is None:
            if session.agent is not None and not session.agent.is_leaving:
                return session.agent
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(_look_at_the_error)
        starting = self._starting
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise errors.SandboxError("The sandbox was ended while the agent was starting.") from None
            raise

    def warm(self) -> None:
        """Have the agent started in the background, so that the next message finds it."""
        if self._starting is None and self._session.failure is None and not self._session.is_closed:
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(_look_at_the_error)

    async def abandon(self) -> None:
        """The session is being closed: give up a start that is under way."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)

    async def _start(self) -> Agent:
        session = self._session
        limit_s = START_LIMIT_S
        try:
            self._look_back()
            limit_s = self._limit_s()
            if session.agent is not None:
                await session.bury(session.agent)  # two at once would be two writers of one conversation
            session.inbox.hold(True)
            await self._prepare()
            async with asyncio.timeout(limit_s):
                return await self._connect()
        except TimeoutError as e:
            await self._give_up()
            raise errors.DeadlineExceeded(f"{session.recipe.name} was not ready within {limit_s:g} s.") from e
        except BaseException:
            await self._give_up()
            raise
        finally:
            self._starting = None
            session.touch()

    def _look_back(self) -> None:
        """What the log tells of the conversation that the agent is to come back to."""
        session, request = self._session, self._session.request
        if session.native_session_id is None:
            return
        from agentctl.supervisor import history

        history.check_place(session.log, request.cwd)
        if session.recipe.load_min_age_s:
            begun = history.begun_at(session.log, session.native_session_id)
            request.created_at = max(request.created_at or 0.0, begun or 0.0)

    def is_blank(self) -> bool:
        """Whether nothing was ever said in the conversation."""
        from agentctl.supervisor import history

        native_id = self._session.native_session_id
        return native_id is not None and history.is_blank(self._session.log, native_id)

    async def check_replay(self) -> Json | None:
        """See ``Conversation``."""
        from agentctl.supervisor import history

        session = self._session
        if session.recipe.replay_after_response:
            await session.inbox.quiet()
        replayed, native_id = session.inbox.replayed, session.native_session_id
        if replayed is None or native_id is None:
            return None
        replayed.note(session.translator.end_replay())  # what it closes was read over as well
        return history.check_replay(session.log, native_id, replayed)

    def _limit_s(self) -> float:
        """For the start as a whole; the time that an agent's young session has to be left alone comes on top."""
        request, recipe = self._session.request, self._session.recipe
        if request.start_timeout_s is None:
            return START_LIMIT_S
        if request.native_session_id is None or request.created_at is None:
            return request.start_timeout_s
        return request.start_timeout_s + max(0.0, request.created_at + recipe.load_min_age_s - time.time())

    async def _give_up(self) -> None:
        session = self._session
        session.inbox.hold(False)
        if session.agent is not None:
            await session.bury(session.agent)

    async def _prepare(self) -> None:
        """The user's files and commands, before the start's own time begins."""
        request, boot = self._session.request, self._boot
        if not request.files and not request.pre_start:
            return
        from agentctl.supervisor.preparation import run_commands, write_files

        write_files(Path(boot.home), request.files)
        env = self._environment(settings.permission_setup(self._session.recipe, request.permissions))
        await run_commands(request.pre_start, env=env, cwd=request.cwd, tmp=Path(boot.tmp), redact=self._redact)

    def _environment(self, setup: PermissionSetup) -> dict[str, str]:
        request, recipe = self._session.request, self._session.recipe
        given = dict(request.env)
        if request.model and recipe.model_env:
            given.setdefault(recipe.model_env, request.model)
        base = {**self._boot.agent_env, SANDBOX_ENV: self._boot.sandbox_id}
        return agent_environment(base, recipe, setup, given)

    async def _connect(self) -> Agent:
        session, request = self._session, self._session.request
        recipe = session.recipe
        if request.start_timeout_s is not None:
            recipe = replace(recipe, start_timeout_s=request.start_timeout_s)
        setup = settings.permission_setup(recipe, request.permissions)
        write_missing_files(Path(self._boot.home), recipe.files)
        if recipe.fresh_files:
            from agentctl.supervisor.fresh_files import write_fresh_files

            write_fresh_files(Path(self._boot.home), recipe.fresh_files)
        await install_skills(self._boot, recipe, request.cwd)
        session.meter.agent_started()
        session.agent = agent = await Agent.start(
            recipe,
            session.inbox,
            env=self._environment(setup),
            cwd=request.cwd,
            stderr_path=self._stderr_path,
            redact=self._redact,
            attach=session.inbox.attach,
        )
        session.translator = Translator(first_item=session.translator.next_item, config=agent.client.config)
        if session.native_session_id is not None:
            from agentctl.supervisor.history import Replayed

            session.translator.begin_replay()
            session.inbox.replayed = Replayed(recipe.replay_skip)
        opened = await agent.open_session(
            request.cwd,
            mcp_servers(self._boot, request.cwd, request.mcp_servers, {**self._boot.agent_env, **request.env}),
            session.native_session_id,
            request.created_at,
            self._on_lost,
            self,
        )
        session.translator.end_replay()  # an agent may replay at a resume as well
        session.inbox.replayed = None
        self._opened(agent, opened)
        await settings.apply(session, agent.client, setup)
        if session.failure is not None:
            raise session.failure
        if agent.connection.is_closed:
            raise errors.AgentStartFailed(
                f"{recipe.name} ended right after its start.", details={"stderr": agent.process.stderr_summary()}
            )
        return agent

    @property
    def _on_lost(self) -> OnLost:
        """What the message says that the agent is started for, else what the session was created with."""
        turn = self._session.turns.running
        return (turn.message.on_lost if turn else None) or self._session.request.on_lost

    def _opened(self, agent: Agent, opened: Opened) -> None:
        session = self._session
        first = session.native_session_id is None
        session.native_session_id, session.context = opened.native_session_id, opened.context
        facts = {
            "agent": session.recipe.name,
            "agentInfo": agent.client.agent_info,
            "capabilities": agent.client.capabilities,
            "context": opened.context,
            "cwd": session.request.cwd,
            "pid": agent.process.pid,
        }
        drafts = [Draft("session.started" if first else "sandbox.agent_started", {"metadata": facts}, "daemon")]
        if opened.context == "lost":
            if self._on_lost == "replay" and has_words(session.log):
                session.context = "replayed"
            lost = {"reason": "; ".join(opened.tried), "tried": opened.tried, "action": self._on_lost}
            drafts.insert(0, Draft("session.context_lost", lost, "daemon"))
        if opened.differs is not None:
            drafts.append(Draft("session.history_differs", opened.differs, "daemon"))
        session.write(drafts)
        session.inbox.hold(False)
        session.write([])


def _look_at_the_error(start: asyncio.Task[Agent]) -> None:
    """A start that nobody waits for any more may fail in peace: the log of whoever asks next will say it."""
    if not start.cancelled():
        start.exception()
