"""The raw ACP servers of a sandbox by their names, which clients choose."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentctl import errors
from agentctl.supervisor.raw.server import RawServer, ServerFile
from agentctl.supervisor.redaction import Redact
from agentctl.wire import Boot, Recipe

Json = dict[str, Any]
BOOTSTRAP_WAIT_S = 10.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def recipe_of(boot: Boot, agent: str) -> Recipe:
    """How this sandbox starts the agent. Raise ``UnsupportedAgent``."""
    recipe = boot.recipes.get(agent)
    if recipe is None:
        known = ", ".join(sorted(boot.recipes)) or "none"
        raise errors.UnsupportedAgent(f"This sandbox has no recipe for agent {agent!r}.", hint=f"It has: {known}.")
    return recipe


class RawServers:
    """A server exists from the first frame sent to it until it is deleted, also over the end of its agent or of a
    supervisor: it is found again by its directory."""

    def __init__(self, boot: Boot, *, redact: Redact | None = None, bootstrap_wait_s: float = BOOTSTRAP_WAIT_S) -> None:
        self._boot = boot
        self._redact = redact
        self._bootstrap_wait_s = bootstrap_wait_s
        self._servers: dict[str, RawServer] = {}
        self._ends: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._closed = False

    def know(self, boot: Boot, redact: Redact | None) -> None:
        """What Boot did not tell, for the servers that are made from now on."""
        self._boot, self._redact = boot, redact

    @property
    def is_busy(self) -> bool:
        """Whether a client waits for an answer of any agent."""
        return any(server.is_busy for server in self._servers.values())

    def listing(self) -> list[Json]:
        """``[{"serverId", "agent", "createdAtMs"}]`` of those whose agent is alive, by name."""
        return [server.listing() for _, server in sorted(self._servers.items()) if server.is_live]

    async def open(self, server_id: str, agent: str | None, cwd: str | None) -> RawServer:
        """The server of that name, made when there is none; its agent starts with the first frame.

        Raise ``UsageError`` for a bad name or a new server without ``agent``, ``UnsupportedAgent``, ``Conflict`` when
        it has another agent, ``StateError``, ``SandboxError`` when all this is ending.
        """
        await self._settled(server_id)
        if self._closed:
            raise errors.SandboxError("This sandbox is ending.")
        server = self._find(server_id)
        if server is None:
            return self._make(server_id, agent, cwd)
        if agent not in (None, server.recipe.name):
            raise errors.Conflict(
                f"Server {server_id} already exists for agent {server.recipe.name}; {agent} was asked for.",
                hint="Choose another server id, or delete this one first.",
            )
        return server

    async def awaited(self, server_id: str) -> RawServer:
        """The server of that name; clients begin to listen while their first frame is still on its way, so it may
        come a little later. Raise ``SessionNotFound`` when it does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._bootstrap_wait_s):
                while not self._closed:
                    await self._settled(server_id)
                    server = self._find(server_id)
                    if server is not None:
                        return server
                    await self._news.wait()
        raise errors.SessionNotFound(
            f"There is no ACP server {server_id}.", hint=f"POST /v1/acp/{server_id}?agent=NAME starts one."
        )

    async def delete(self, server_id: str) -> None:
        """End the server and give its name free; its log stays on the disk. Deleting a missing one succeeds."""
        await self._settled(server_id)
        server = self._find(server_id)
        if server is None:
            return
        del self._servers[server_id]
        self._ends[server_id] = end = asyncio.create_task(server.close(forget=True))
        end.add_done_callback(lambda _: self._ends.pop(server_id, None))
        await asyncio.shield(end)

    async def close(self) -> None:
        """Stop every agent and end every stream; the servers are found again by the next supervisor."""
        self._closed = True
        self._tell_news()
        servers, self._servers = list(self._servers.values()), {}
        ends = [*self._ends.values(), *(server.close(forget=False) for server in servers)]
        await asyncio.gather(*ends, return_exceptions=True)  # a log that cannot be synced must not hold up the rest

    async def _settled(self, server_id: str) -> None:
        """Wait until the end of an earlier server of that name is complete."""
        _check_name(server_id)
        end = self._ends.get(server_id)
        if end is not None:
            await asyncio.wait({end})

    def _make(self, server_id: str, agent: str | None, cwd: str | None) -> RawServer:
        if not agent:
            raise errors.UsageError(
                f"There is no ACP server {server_id} yet: its first request names the agent.", hint="Add ?agent=NAME."
            )
        recipe_of(self._boot, agent)
        if cwd is not None and not cwd.startswith("/"):
            raise errors.UsageError(f"cwd must be an absolute path: {cwd[:80]!r}")
        directory = self._directory(server_id)
        file = ServerFile.read(directory)._replace(agent=agent, cwd=cwd)
        file.write(directory)
        return self._add(server_id, file)

    def _find(self, server_id: str) -> RawServer | None:
        server = self._servers.get(server_id)
        if server is not None or self._closed:
            return server
        file = ServerFile.read(self._directory(server_id))
        return self._add(server_id, file) if file.agent in self._boot.recipes else None

    def _add(self, server_id: str, file: ServerFile) -> RawServer:
        assert file.agent is not None
        server = self._servers[server_id] = RawServer(
            server_id,
            self._directory(server_id),
            file,
            self._boot.recipes[file.agent],
            self._boot,
            redact=self._redact,
        )
        self._tell_news()
        return server

    def _directory(self, server_id: str) -> Path:
        return Path(self._boot.log_root) / "acp" / server_id

    def _tell_news(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _check_name(server_id: str) -> None:
    if not _NAME.fullmatch(server_id):
        raise errors.UsageError(
            f"A server id is up to 128 letters, digits, dots, dashes and underscores: {server_id[:60]!r}"
        )
