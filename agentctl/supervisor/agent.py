"""One running agent: its process, its ACP connection, and the ladder by which it comes by its session.

resume → load → new: the agent's own memory first; a new session only when the caller allowed it, and never silently.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from agentctl import __version__, errors
from agentctl.acp.client import AgentClient, initialize
from agentctl.acp.connection import Connection, Handler
from agentctl.supervisor.agent_process import AgentProcess, Ending
from agentctl.supervisor.log.files import said_as_ours
from agentctl.supervisor.redaction import Redact
from agentctl.wire import PermissionSetup, Recipe

if TYPE_CHECKING:
    from agentctl.model import Context, OnLost

Json = dict[str, Any]
LAST_WORDS_S = 0.5
LAST_WORDS_LIMIT_S = 10.0
"""A dead agent's pipe that does not end with it is read until such a silence, but not longer than the limit."""
REPLAY_QUIET_S = 0.5
REPLAY_LIMIT_S = 15.0


class Opened(NamedTuple):
    """How the session was opened. ``tried`` are the rungs that failed before, with the agent's words; ``differs`` is
    what a load's replay lacks (``session.history_differs``)."""

    native_session_id: str
    context: Context
    tried: list[str]
    differs: Json | None = None


class Conversation(Protocol):
    """What is known of the conversation that an agent is to come back to."""

    def is_blank(self) -> bool:
        """Whether nothing was ever said in it."""

    async def check_replay(self) -> Json | None:
        """After a load: what its replay lacks, None when nothing. Raise ``ContextLost`` for an empty one."""


class Agent:
    """A started agent that has answered ``initialize``."""

    def __init__(
        self, recipe: Recipe, process: AgentProcess, connection: Connection, reading: asyncio.Task[None]
    ) -> None:
        self.recipe = recipe
        self.process = process
        self.connection = connection
        self._reading = reading
        self._differs: Json | None = None
        self.burial: asyncio.Task[Json] | None = None
        """How its session ends it, once begun."""
        self.client: AgentClient

    @property
    def is_leaving(self) -> bool:
        """Whether nothing can be asked of it any more."""
        return self.burial is not None or self.connection.is_closed

    @classmethod
    async def start(
        cls,
        recipe: Recipe,
        handler: Handler,
        *,
        env: Mapping[str, str],
        cwd: str,
        stderr_path: Path,
        redact: Redact | None,
        attach: Callable[[Connection], None],
    ) -> Agent:
        """Spawn, give the connection to ``attach``, and shake hands. On any error the process is gone. Raise
        ``AgentStartFailed``, ``ProtocolError``, ``DeadlineExceeded`` or a credentials error."""
        process = await AgentProcess.spawn(recipe.argv, env=env, cwd=cwd, stderr_path=stderr_path, redact=redact)
        connection = Connection(process.stdout, process.stdin, handler)
        attach(connection)
        _close_after_death(process, connection)
        agent = cls(recipe, process, connection, asyncio.create_task(connection.run()))
        try:
            agent.client = await initialize(
                connection,
                agent=recipe.name,
                client_meta=recipe.client_meta,
                version=__version__,
                timeout_s=recipe.start_timeout_s,
            )
        except errors.AgentExited as e:
            await agent.stop()
            raise errors.AgentStartFailed(
                f"{recipe.name} ended before it was ready.", details={"stderr": process.stderr_summary()}
            ) from e
        except BaseException:
            await agent.stop()
            raise
        return agent

    async def stop(self) -> Ending:
        """End the process with all its descendants. Idempotent."""
        self.connection.close()
        ending = await self.process.stop(self.recipe.stop_grace_s)
        await self._reading
        return ending

    async def open_session(
        self,
        cwd: str,
        mcp_servers: list[Json],
        native_session_id: str | None,
        created_at: float | None,
        on_lost: OnLost,
        conversation: Conversation,
    ) -> Opened:
        """Open a new session, or climb the ladder for ``native_session_id``. Raise ``ContextLost`` when no rung held,
        something was said before, and ``on_lost`` is ``fail``; credentials and start errors as the agent tells them."""
        if native_session_id is None:
            return Opened(await self._new(cwd, mcp_servers), "new", [])
        tried: list[str] = []
        if await self._restore(tried, cwd, mcp_servers, native_session_id, created_at, conversation):
            return Opened(native_session_id, "restored", tried, self._differs)
        if conversation.is_blank():
            return Opened(await self._new(cwd, mcp_servers), "new", tried)
        if on_lost == "fail":
            raise errors.ContextLost(
                f"{self.recipe.name} cannot restore the conversation ({'; '.join(tried) or 'it has no resume'}).",
                hint="Go on with a fresh context by --on-lost new, or with the transcript by --on-lost replay.",
                details={"tried": tried},
            )
        return Opened(await self._new(cwd, mcp_servers), "lost", tried)

    async def _restore(
        self,
        tried: list[str],
        cwd: str,
        mcp_servers: list[Json],
        native_session_id: str,
        created_at: float | None,
        conversation: Conversation,
    ) -> bool:
        client = self.client
        if client.can_resume and await self._rung(
            tried, "resume", client.resume_session(native_session_id, cwd, mcp_servers=mcp_servers)
        ):
            return True
        if not client.can_load:
            return False
        await self._wait_until_loadable(created_at)
        load = client.load_session(native_session_id, cwd, mcp_servers=mcp_servers)
        return await self._rung(tried, "load", load) and await self._rung(tried, "load", self._verify(conversation))

    async def _verify(self, conversation: Conversation) -> None:
        self._differs = await conversation.check_replay()

    async def _rung(self, tried: list[str], name: str, attempt: Any) -> bool:
        try:
            await attempt
        except (errors.CredentialsError, errors.AgentExited, errors.DeadlineExceeded):
            raise
        except errors.AgentctlError as e:
            tried.append(f"{name}: {e.message}")
            return False
        return True

    async def _wait_until_loadable(self, created_at: float | None) -> None:
        if self.recipe.load_min_age_s and created_at is not None:
            await asyncio.sleep(max(0.0, created_at + self.recipe.load_min_age_s - time.time()))

    async def _new(self, cwd: str, mcp_servers: list[Json]) -> str:
        meta = self.recipe.session_meta or None
        try:
            await self.client.new_session(cwd, mcp_servers=mcp_servers, meta=meta)
        except errors.CredentialsError:
            if self.recipe.auth_method is None:
                raise
            await self.client.authenticate(self.recipe.auth_method)
            await self.client.new_session(cwd, mcp_servers=mcp_servers, meta=meta)
        assert self.client.session_id is not None
        return self.client.session_id


def _close_after_death(process: AgentProcess, connection: Connection) -> None:
    """A grandchild may hold a dead agent's stdout open for ever: then this is what ends the connection."""
    loop = asyncio.get_running_loop()

    def look(seen: int, deadline: float) -> None:
        if connection.chunks_read == seen or loop.time() >= deadline:
            connection.close()
        else:
            loop.call_later(LAST_WORDS_S, look, connection.chunks_read, deadline)

    process.exit_code.add_done_callback(
        lambda _: loop.call_later(LAST_WORDS_S, look, connection.chunks_read, loop.time() + LAST_WORDS_LIMIT_S)
    )


def agent_environment(
    base: Mapping[str, str], recipe: Recipe, setup: PermissionSetup, given: Mapping[str, str]
) -> dict[str, str]:
    """The agent's whole environment: the sandbox's, the recipe's, the permission set-up's, then the user's ``--env``.

    ``config_env`` objects are merged into a JSON variable that may be there already; the set-up wins, since it is what
    makes the agent ask.
    """
    env = {**base, **recipe.env, **setup.env, **given}
    env["PATH"] = ":".join([*recipe.path, env.get("PATH", "/usr/local/bin:/usr/bin:/bin")])
    for name, wanted in setup.config_env.items():
        try:
            existing = json.loads(env.get(name) or "{}")
        except ValueError as e:
            raise errors.UsageError(f"The environment variable {name} is not JSON: {e}") from e
        if not isinstance(existing, dict):
            raise errors.UsageError(f"The environment variable {name} is not a JSON object.")
        env[name] = json.dumps(merge(existing, wanted))
    return env


def merge(base: Json, over: Json) -> Json:
    """Deep merge of JSON objects; ``over`` wins where both have a value."""
    both = dict(base)
    for key, value in over.items():
        mine = both.get(key)
        both[key] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return both


def write_missing_files(home: Path, files: Mapping[str, str]) -> None:
    """Put a recipe's files under HOME, never over a file that is there. Raise ``StateError`` where it cannot be."""
    for relative, text in files.items():
        path = home / relative
        with said_as_ours(path, what="the agent's file"):
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                path.chmod(0o600)
