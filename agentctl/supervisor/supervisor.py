"""The supervisor of one sandbox: its sessions, its raw ACP servers, its idleness and its orderly end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentctl import __version__, errors
from agentctl.supervisor.cgroups import cgroup_pids, join_cgroup, kill_cgroup, remove_cgroup
from agentctl.supervisor.processes import OrphanReaper, ProcessIdentity, end_all, kin
from agentctl.supervisor.raw.servers import RawServers
from agentctl.supervisor.redaction import make_redactor
from agentctl.supervisor.session import Session
from agentctl.wire import SOCKET_DIRECTORY, Boot

if TYPE_CHECKING:
    from agentctl.supervisor.exec.processes import UserProcesses
    from agentctl.supervisor.keep.keeper import Keeper

Json = dict[str, Any]
IDLE_TICK_S = 1.0
SIGN_S = 30.0
"""How often an active supervisor shows that it lives to those who have no token."""

REMEMBER_S = 1.0
PROCESSES = "processes"
"""The directory below the log's where the processes of users are noted, each in one of its own."""

STOP_GRACE_S = 2.0
LEAVE_TIMEOUT_S = 8.0


class Supervisor:
    """Owns everything that runs in the sandbox. ``leave`` is the one way out; ``close`` ends what is left."""

    def __init__(self, boot: Boot) -> None:
        self.boot = boot
        self.sessions: dict[str, Session] = {}
        self._begun: dict[str, asyncio.Task[Session]] = {}
        self.redact = make_redactor((*boot.secrets, boot.token))
        self.raw_servers = RawServers(boot, redact=self.redact)
        self.activities: list[Callable[[], bool]] = []
        self.closers: list[Callable[[], Awaitable[None]]] = []
        self.user_processes: UserProcesses | None = None
        self.keeper: Keeper | None = None
        if boot.keep is not None:
            from agentctl.supervisor.keep.keeper import Keeper

            self.keeper = Keeper(boot)
        self._last_active = time.monotonic()
        self._signed_at: float | None = None
        self._exit: Callable[[], None] | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._released = False
        self._ticker: asyncio.Task[None] | None = None
        self._reaper = OrphanReaper()

    def begin(self) -> None:
        """Open the session that Boot names; ``create_session`` will tell how it went."""
        if self.keeper is not None:
            self.keeper.begin()
        if self.boot.session is not None:
            session_id = self.boot.session["id"]
            opening = asyncio.create_task(self._open(session_id, self.boot.session["request"]))
            opening.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may ever ask
            self._begun[session_id] = opening

    def start(self, exit_: Callable[[], None]) -> None:
        """Begin to watch for idleness; ``exit_`` stops the HTTP server."""
        self._exit = exit_
        if self._leaving is not None and self._leaving.done():
            exit_()  # it was told to leave before there was a server to end
        self._reaper.start()
        self._ticker = asyncio.create_task(self._tick())
        if os.path.isdir(os.path.join(self.boot.log_root, PROCESSES)):
            self._remembering = asyncio.create_task(self._remember_processes())

    async def _remember_processes(self) -> None:
        """Look after what users started under an earlier supervisor; that can wait until this one is up."""
        await asyncio.sleep(REMEMBER_S)
        module = await asyncio.to_thread(import_module, "agentctl.supervisor.exec.processes")
        module.UserProcesses.of(self)

    def touch(self) -> None:
        """Something happened that a user would call activity."""
        self._last_active = time.monotonic()

    def session(self, session_id: str) -> Session:
        try:
            return self.sessions[session_id]
        except KeyError:
            raise errors.SessionNotFound(f"No session {session_id} lives in this sandbox.") from None

    async def create_session(self, session_id: str, request: Json) -> Session:
        """Start the agent and open its session. On any error nothing of it is left. Raise ``SessionExists``."""
        begun = self._begun.pop(session_id, None)
        return await (begun or self._open(session_id, request))

    def _launch(self, agent: Any, launch: Any) -> None:
        """Know from now on what Boot did not tell."""
        try:
            self.boot = self.boot.launched(agent, launch)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise errors.UsageError("launch is not what wire.py says.") from None
        self._know_secrets()

    def hide(self, secrets: Sequence[str]) -> None:
        """Redact these too in whatever is begun from now on."""
        new = set(secrets) - set(self.boot.secrets)
        if new:
            self.boot = replace(self.boot, secrets=(*self.boot.secrets, *new))
            self._know_secrets()

    def _know_secrets(self) -> None:
        self.redact = make_redactor((*self.boot.secrets, self.boot.token))
        self.raw_servers.know(self.boot, self.redact)

    async def _open(self, session_id: str, request: Json) -> Session:
        if self.keeper is not None:
            await self.keeper.log_restored(session_id, request)
        if session_id in self.sessions:
            raise errors.SessionExists(f"Session {session_id} lives in this sandbox already.")
        if self._leaving is not None:
            raise errors.SupervisorUnreachable("The sandbox is being ended.")
        agent = request.get("agent")
        if request.get("launch") is not None:
            self._launch(agent, request["launch"])
        recipe = self.boot.recipes.get(agent) if isinstance(agent, str) else None
        if recipe is None:
            raise errors.AgentNotFound(f"This sandbox has no recipe for agent {agent!r}.")
        session = Session(
            session_id,
            recipe,
            request,
            self.boot,
            redact=self.redact,
            touch=self.touch,
        )
        self.sessions[session_id] = session
        try:
            if self.keeper is not None:
                self.keeper.attach(session)
            await session.start()
        except BaseException:
            self.sessions.pop(session_id, None)  # a release that came in between has taken it already
            await self._close_session(session, "error")
            raise
        return session

    async def terminate_session(self, session_id: str) -> None:
        """Stop the agent and close the log. Terminating a missing session succeeds."""
        session = self.sessions.pop(session_id, None)
        if session is not None:
            await session.terminate()
            await self._detach(session)

    async def release_session(self, session_id: str) -> None:
        """Stop the agent and close the log of a session that will come back; the others here, and what users run, go
        on. Releasing a missing one succeeds."""
        session = self.sessions.pop(session_id, None)
        if session is not None:
            await self._close_session(session, "released")

    async def _close_session(self, session: Session, reason: str) -> None:
        await session.close(reason)
        await self._detach(session)

    async def _detach(self, session: Session) -> None:
        if self.keeper is not None:
            await self.keeper.detach(session.id)

    def health(self) -> Json:
        return {
            "status": "ok" if self._leaving is None else "leaving",
            "sandbox_id": self.boot.sandbox_id,
            "fencing": self.boot.fencing,
            "pid": os.getpid(),
            "version": __version__,
            "sessions": len(self.sessions),
            "idle_s": round(self.idle_s(), 1),
            **({} if self.keeper is None else {"keep": self.keeper.health()}),
        }

    def idle_s(self) -> float:
        """Seconds since the last activity; 0 while a turn runs or waits, a raw request is open, or a process of the
        user runs. An open reader is no activity."""
        if (
            self.raw_servers.is_busy
            or any(s.is_busy for s in self.sessions.values())
            or any(is_active() for is_active in self.activities)
        ):
            self.touch()
        return time.monotonic() - self._last_active

    def leave(self, reason: str) -> None:
        """Begin the orderly end: agents stopped, logs flushed, then the server. Called again it changes nothing."""
        if self._leaving is None:
            self._released = reason == "released"
            self._leaving = asyncio.create_task(self._leave(reason))

    async def _leave(self, reason: str) -> None:
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await asyncio.gather(
                    self._close_sessions(reason), self.raw_servers.close(), *(close() for close in self.closers)
                )
        except TimeoutError:
            pass  # whatever would not end in good order is killed by ``close``
        finally:
            if self.keeper is not None:
                await self.keeper.finish()
            if self._exit is not None:
                self._exit()

    async def close(self) -> None:
        """End every process of this sandbox but ourselves."""
        if self._ticker is not None:
            self._ticker.cancel()
        await end_all(self._processes, grace_s=STOP_GRACE_S)
        self._reaper.close()
        if self.boot.cgroup:
            kill_cgroup(self.boot.cgroup, spare=os.getpid())
            if not self._released:  # or else the host, which waits for us, removes it: we would need 15 ms
                join_cgroup(os.path.dirname(self.boot.cgroup))  # a group with a process in it cannot be removed
                remove_cgroup(self.boot.cgroup)
        self._forget_socket()

    def _forget_socket(self) -> None:
        """A directory that is for the socket alone lies where nobody would miss it, nor find it."""
        path = self.boot.listen.get("unix", "")
        if os.path.basename(os.path.dirname(path)).startswith(SOCKET_DIRECTORY):
            with suppress(OSError):
                os.unlink(path)
                os.rmdir(os.path.dirname(path))

    async def _close_sessions(self, reason: str) -> None:
        sessions, self.sessions = list(self.sessions.values()), {}
        await asyncio.gather(*(s.close(reason) for s in sessions))

    def _processes(self) -> list[ProcessIdentity]:
        me = os.getpid()
        inside = (
            [i for pid in cgroup_pids(self.boot.cgroup) if (i := ProcessIdentity.of(pid))] if self.boot.cgroup else []
        )
        found = {i.pid: i for i in [*kin([me], self.boot.sandbox_id), *inside]}
        found.pop(me, None)
        return [i for i in found.values() if i.is_alive()]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(IDLE_TICK_S)
            self._give_sign()
            if self.boot.expires_at is not None and time.time() >= self.boot.expires_at:
                self.leave("hibernated")
            limit = self.boot.idle_timeout_s
            if limit is not None and self.idle_s() >= limit:
                self.leave("hibernated")

    def _give_sign(self) -> None:
        """Have the log's directory bear the time of the last activity, whether or not that left anything in a log:
        it is all that ``cleanup-orphans`` sees of a sandbox of another state directory's."""
        if self._signed_at is not None and time.monotonic() - self._signed_at < SIGN_S:
            return
        idle_s = self.idle_s()
        if self._signed_at is None or self._last_active > self._signed_at:
            active_at = time.time() - idle_s
            with suppress(OSError):
                os.utime(self.boot.log_root, (active_at, active_at))
            self._signed_at = time.monotonic()
