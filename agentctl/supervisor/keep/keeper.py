"""Keeps a sandbox's logs and HOME on the volume while it lives: what is due when, and who is told how it went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agentctl import ids
from agentctl.errors import AgentctlError, LeaseLost
from agentctl.events import Draft
from agentctl.supervisor.keep import LEAVE_S, PERIOD_S
from agentctl.supervisor.keep.home import KeptHome
from agentctl.supervisor.keep.home import Restored as RestoredHome
from agentctl.supervisor.keep.log import KeptLog
from agentctl.supervisor.keep.log import Restored as RestoredLog

if TYPE_CHECKING:
    from agentctl.supervisor.session import Session
    from agentctl.wire import Boot

Json = dict[str, Any]
T = TypeVar("T")
HOME = "home"
_DETACH_S = 15.0
_MOST_TOLD = 10
_LONGEST_PAUSE_S = 60.0
_HOME_RETRY_S = 60.0
"""The first time; each further attempt without a turn in between waits twice as long."""


class Keeper:
    """``begin`` first, ``log_restored`` before a session's log is opened and ``attach`` after, ``finish`` at the end.

    Its threads are its own, since those for work on the agent's files may not enter the logs' directory."""

    def __init__(self, boot: Boot) -> None:
        assert boot.keep is not None
        self._boot = boot
        self._to = Path(boot.keep["to"])
        self._threads = {kind: ThreadPoolExecutor(1, f"keep-{kind}") for kind in ("log", HOME)}
        self._restoring: asyncio.Task[RestoredHome | None] | None = None
        self._logs: dict[str, _LogTask] = {}
        self._opening: dict[str, tuple[KeptLog, RestoredLog]] = {}
        self._kept_home = KeptHome(Path(boot.home), self._to / HOME, Path(boot.tmp), boot.sandbox_id, boot.fencing)
        self._home_due = asyncio.Event()
        self._home_task: asyncio.Task[None] | None = None
        self._home_said = not boot.keep["home"]
        self._home_at: float | None = None
        self._home_bytes: int | None = None
        self._errors: dict[str, AgentctlError] = {}

    @property
    def has_home(self) -> bool:
        return self._boot.keep is not None and bool(self._boot.keep["home"])

    def begin(self) -> None:
        """Begin to restore HOME, for which everything else waits."""
        if self.has_home:
            self._restore_home()

    async def home_restored(self) -> None:
        """Return when HOME is what it was. Raise why it cannot be; the next to ask has it tried again."""
        if not self.has_home:
            return
        restoring = self._restoring
        if restoring is None or (restoring.done() and (restoring.cancelled() or restoring.exception())):
            restoring = self._restore_home()
        await asyncio.shield(restoring)

    def _restore_home(self) -> asyncio.Task[RestoredHome | None]:
        self._restoring = asyncio.create_task(self._home_restore())
        self._restoring.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._restoring

    async def _home_restore(self) -> RestoredHome | None:
        restored = await self._in_thread(HOME, self._kept_home.restore)
        if self._home_task is None:
            self._home_task = asyncio.create_task(self._keep_home())
        return restored

    async def log_restored(self, session_id: str, request: Json) -> None:
        """Return when what the volume has of a session's log, and HOME, are there. Raise why they cannot be."""
        await self.home_restored()
        if session_id in self._logs:
            return
        below = Path("sessions", name) if ids.is_name(name := str(request.get("logName", ""))) else Path()
        fencing = (request.get("launch") or {}).get("fencing", self._boot.fencing)
        log = KeptLog(Path(self._boot.log_root) / below, self._to / "log" / below, self._boot.sandbox_id, fencing)
        self._opening[session_id] = (log, await self._in_thread("log", log.restore))

    def attach(self, session: Session) -> None:
        """Keep the log that was opened now, and say in it what was restored."""
        log, restored = self._opening.pop(session.id)
        self._logs[session.id] = task = _LogTask(self, session, log)
        told = self._told(restored, session.log.held)
        if told is not None:
            session.write([Draft("sandbox.restored", told, "daemon")])
        task.start()

    def _told(self, log: RestoredLog, held: int) -> Json | None:
        """The data of ``sandbox.restored``; HOME is told in the first session's log."""
        told: Json = {}
        if log.was_used or log.problem is not None:
            told["log"] = {"last": held, "problem": log.problem}
        home = self._restoring.result() if self._restoring and not self._home_said else None
        self._home_said = True
        if home is not None:
            told[HOME] = {"number": home.number, "refused": home.refused}
        return told or None

    async def detach(self, session_id: str) -> None:
        """The session is closed: bring the rest of its log to the volume, if that can be done in a short time."""
        self._opening.pop(session_id, None)
        task = self._logs.pop(session_id, None)
        if task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DETACH_S):
                    await task.finish()
            self._errors.pop(session_id, None)

    async def finish(self) -> None:
        """Everything has ended: bring the last of it to the volume, as far as that can be done in ``LEAVE_S``."""
        if self._home_task is not None:
            self._home_task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await asyncio.gather(*(log.finish() for log in self._logs.values()), self._last_home())

    async def _last_home(self) -> None:
        if self._home_task is not None:
            await self._save_home()

    def home_due(self) -> None:
        """A turn has ended."""
        self._home_due.set()

    async def _keep_home(self) -> None:
        retry_s = _HOME_RETRY_S
        while not isinstance(self._errors.get(HOME), LeaseLost):
            with suppress(TimeoutError):
                async with asyncio.timeout(retry_s if HOME in self._errors else None):
                    await self._home_due.wait()
            self._home_due.clear()
            begun = time.monotonic()
            retry_s = _HOME_RETRY_S if await self._save_home() else 2 * retry_s
            await asyncio.sleep(min(time.monotonic() - begun, _LONGEST_PAUSE_S))  # at most half of the time

    async def _save_home(self) -> bool:
        try:
            saved = await self._in_thread(HOME, self._kept_home.save)
        except AgentctlError as e:
            self.failed(HOME, e, self._sessions())
            return False
        self.succeeded(HOME, self._sessions())
        if saved is not None:
            self._home_at, self._home_bytes = time.time(), saved["bytes"]
        return True

    def _sessions(self) -> list[Session]:
        return [log.session for log in self._logs.values()]

    def failed(self, what: str, error: AgentctlError, sessions: list[Session]) -> None:
        """Say so, once until it succeeds."""
        is_new = what not in self._errors
        self._errors[what] = error
        if is_new:
            said = {"what": HOME if what == HOME else "log", "message": error.message, "code": error.code}
            _say(sessions, "sandbox.keep_failed", {**said, "hint": error.hint})

    def succeeded(self, what: str, sessions: list[Session]) -> None:
        if self._errors.pop(what, None) is not None:
            _say(sessions, "sandbox.keep_resumed", {"what": HOME if what == HOME else "log"})

    async def copy(self, log: KeptLog, upto: int, held: int) -> None:
        await self._in_thread("log", log.copy, upto, held)

    async def _in_thread(self, kind: str, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads[kind], work, *args)

    def health(self) -> Json:
        """Kept of ``wire.py``."""
        restoring = self._restoring is not None and not self._restoring.done()
        return {
            "logs": {id_: {"last": log.session.log.last_sequence, "kept": log.kept} for id_, log in self._logs.items()},
            "home_at": self._home_at,
            "home_bytes": self._home_bytes,
            "home_unreadable": sorted(self._kept_home.unreadable)[:_MOST_TOLD],
            "is_restoring": restoring,
            "error": next((error.to_json() for error in self._errors.values()), None),
        }


class _LogTask:
    """Copies one session's log, at once after what is durable, else some time after what is new."""

    def __init__(self, keeper: Keeper, session: Session, log: KeptLog) -> None:
        self._keeper = keeper
        self.session = session
        self._log = log
        self._new, self._urgent = asyncio.Event(), asyncio.Event()
        self._last_turn: Json | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def kept(self) -> int:
        return self._log.last

    def start(self) -> None:
        self.session.log.noted = self._noted
        self._new.set()
        self._task = asyncio.create_task(self._run())

    def _noted(self, durable: bool) -> None:
        self._new.set()
        if durable:
            self._urgent.set()

    async def _run(self) -> None:
        pause_s = PERIOD_S
        while not isinstance(self.session.failure, LeaseLost):
            await self._new.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._urgent.wait()
            self._new.clear()
            self._urgent.clear()
            self._look_for_a_turn()
            pause_s = PERIOD_S if await self._copy() else self._again(pause_s)

    def _again(self, pause_s: float) -> float:
        self._new.set()
        return min(2 * pause_s, _LONGEST_PAUSE_S)

    def _look_for_a_turn(self) -> None:
        turn = self.session.turns.last
        if turn is not self._last_turn:
            self._last_turn = turn
            self._keeper.home_due()

    async def _copy(self) -> bool:
        keeper, session = self._keeper, self.session
        try:
            await keeper.copy(self._log, session.log.last_sequence, session.log.held)
        except LeaseLost as e:
            keeper.failed(session.id, e, [])
            session.fail(e)
        except AgentctlError as e:
            keeper.failed(session.id, e, [session])
        else:
            keeper.succeeded(session.id, [session])
            return True
        return False

    async def finish(self) -> None:
        """The last copy. What runs in the thread ends before it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._copy()
        self._log.close()


def _say(sessions: list[Session], kind: str, data: Json) -> None:
    for session in sessions:
        if not session.is_closed:
            session.write([Draft(kind, data, "daemon")])
