"""Waiting for a session: until it is idle, until a turn has ended, until an agent asks something.

Nobody polls: the session's own events wake the one who waits, and the supervisor's answer or the log decides.
"""

from __future__ import annotations

import asyncio
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal

from agentctl import errors
from agentctl.frozen import frozen
from agentctl.model import Outcome, Session
from agentctl.ops import mirror, reach

if TYPE_CHECKING:
    from agentctl.ops.app import App
    from agentctl.supervisor_client import SupervisorClient

Json = dict[str, Any]
WaitFor = Literal["idle", "turn-ended", "request"]
WAIT_FOR: tuple[WaitFor, ...] = ("idle", "turn-ended", "request")
SNAPSHOT_TIMEOUT_S = 15.0
_TELLING = ("turn.", "permission.", "question.", "sandbox.", "session.")


@frozen
class Waited:
    """What came of it. ``turn_id`` and ``outcome`` are of the turn that was waited for, ``requests`` the ids of those
    that wait now. ``error`` is why it will not come to be any more, None when it is so."""

    session: Session
    wait_for: WaitFor
    turn_id: str | None = None
    outcome: Outcome | None = None
    requests: list[str] = field(default_factory=list)
    error: errors.AgentctlError | None = None

    def to_json(self) -> Json:
        return {
            "session_id": self.session.id,
            "session": self.session.name,
            "for": self.wait_for,
            "turn_id": self.turn_id,
            "outcome": self.outcome,
            "requests": self.requests,
        }


async def wait(
    app: App, ref: str, wait_for: WaitFor, *, turn_id: str | None = None, timeout_s: float | None = None
) -> Waited:
    """Return when it is so, which it may be already, or when it cannot come to be any more.

    ``idle``: no turn runs or is in line. ``turn-ended``: the turn named, else the one that runs, else the last one;
    one that was cut off is told as ``interrupted`` with an ``error``. ``request``: something waits for an answer.

    Raise ``DeadlineExceeded``, ``SessionNotFound``, ``TurnNotFound``, and ``SupervisorUnreachable`` when the supervisor
    lives and says nothing.
    """
    session = app.store.session(ref)
    try:
        async with asyncio.timeout(timeout_s) as limit:
            return await _Wait(app, session, wait_for, turn_id).run()
    except TimeoutError as e:
        if not limit.expired():
            raise
        raise errors.DeadlineExceeded(
            f"Session {session.name}: no '{wait_for}' within {timeout_s:g} s.",
            hint=f"See how it is with: agentctl sessions get {session.name}",
        ) from e


class _Wait:
    def __init__(self, app: App, session: Session, wait_for: WaitFor, turn_id: str | None) -> None:
        self._app = app
        self._session = session
        self._for = wait_for
        self._turn_id = turn_id

    async def run(self) -> Waited:
        self._session = await mirror.from_volume(self._app, self._session)
        client = await reach.live_client(self._app, self._session)
        if client is None:
            return await self._lost()
        async with client:
            try:
                return await self._watched(client)
            except (errors.SupervisorUnreachable, errors.SessionNotFound) as e:
                self._session = await mirror.from_volume(self._app, self._app.store.session(self._session.id))
                if not isinstance(e, errors.SessionNotFound) and await reach.is_running(self._app, self._session):
                    raise
                return await self._lost()

    async def _lost(self) -> Waited:
        """Raise ``SandboxPaused`` where it will go on."""
        from agentctl.ops import loss

        state = await loss.state_of(self._app, self._session)
        if state is not None and state.status == "paused":
            raise loss.is_paused(self._session, state)
        return self._judged_dead()

    async def _watched(self, client: SupervisorClient) -> Waited:
        """Judge now, and after every event that may have changed the verdict."""
        if (done := await self._judged(client)) is not None:
            return done
        async for batch in client.stream(self._session.id, self._session.last_sequence):
            mirror.apply(self._app, self._session.id, batch)
            if any(e.type.startswith(_TELLING) for e in batch) and (done := await self._judged(client)) is not None:
                return done
        raise errors.SupervisorUnreachable("The sandbox's supervisor left.")

    async def _judged(self, client: SupervisorClient) -> Waited | None:
        snapshot = await client.snapshot(self._session.id, timeout_s=SNAPSHOT_TIMEOUT_S)
        last = snapshot["lastTurn"] or {}
        if self._for == "idle":
            at_rest = snapshot["turnId"] is None and not snapshot.get("queue") and snapshot["status"] != "starting"
            return self._so(last.get("turn_id"), last.get("outcome")) if at_rest else None
        if self._for == "request":
            waiting = [str(r.get("permission_id") or r.get("question_id")) for r in snapshot["requests"]]
            return self._so(snapshot["turnId"], requests=waiting) if waiting else None
        self._turn_id = self._turn_id or snapshot["turnId"] or last.get("turn_id") or self._last_turn()
        if last.get("turn_id") == self._turn_id:
            return self._turn_ended(last["outcome"])
        in_line = [waiting["turn_id"] for waiting in snapshot.get("queue") or ()]
        if self._turn_id == snapshot["turnId"] or self._turn_id in in_line:
            return None
        return self._known_end(snapshot["eventCount"])

    def _judged_dead(self) -> Waited:
        """Nothing lives that could change anything: what the log says is how it stays."""
        open_turns = self._app.store.turns(self._session.id, open_only=True)
        running = next((t.id for t in reversed(open_turns) if t.status != "queued"), None)
        if self._for == "turn-ended":
            self._turn_id = self._turn_id or running or self._last_turn()
            if self._turn_id == running:
                return self._turn_ended("interrupted")
            if self._turn_id in [t.id for t in open_turns]:
                return self._never(f"The turn {self._turn_id} is in line, and the session has no sandbox.")
            return self._known_end() or self._turn_ended("interrupted")
        if self._for == "request":
            return self._never(f"Session {self._session.name} has no sandbox: nobody is there who could ask.")
        if running is not None:
            self._turn_id = running
            return self._turn_ended("interrupted")
        if open_turns:
            return self._never(f"Session {self._session.name} has messages in line, and no sandbox.")
        return self._so(self._session.last_turn_id, self._session.last_outcome)

    def _last_turn(self) -> str:
        turn_id = self._app.store.session(self._session.id).last_turn_id
        if turn_id is None:
            raise errors.TurnNotFound(f"Session {self._session.name} has not had a turn yet.")
        return turn_id

    def _known_end(self, log_end: int = 0) -> Waited | None:
        """How the turn ended, as the mirror knows; None while it does not know that, or has not got to ``log_end``."""
        turn = self._app.store.turn(self._session.id, str(self._turn_id))
        if turn is not None:
            return self._turn_ended(turn.outcome) if turn.outcome is not None else None
        if self._app.store.session(self._session.id).last_sequence < log_end:
            return None
        raise errors.TurnNotFound(f"Session {self._session.name} knows of no turn {self._turn_id}.")

    def _turn_ended(self, outcome: Outcome) -> Waited:
        if outcome != "interrupted":
            return self._so(self._turn_id, outcome)
        return self._never(f"The turn {self._turn_id} was cut off: its sandbox died.", outcome)

    def _so(self, turn_id: str | None, outcome: Outcome | None = None, requests: list[str] | None = None) -> Waited:
        return Waited(
            session=self._session, wait_for=self._for, turn_id=turn_id, outcome=outcome, requests=requests or []
        )

    def _never(self, why: str, outcome: Outcome | None = None) -> Waited:
        hint = f"Bring the session back with: agentctl sessions resume {self._session.name}"
        return Waited(
            session=self._session,
            wait_for=self._for,
            turn_id=self._turn_id,
            outcome=outcome,
            error=errors.SandboxError(why, hint=hint),
        )
