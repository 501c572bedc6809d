"""The turns of a session, one at a time: begun, prompted, ended for one reason, told as one outcome; others queue."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.events import Draft
from agentctl.supervisor import settings
from agentctl.supervisor.outcome import EndedBy, judge
from agentctl.supervisor.stall_watch import StallWatch
from agentctl.supervisor.transcript import replay_block
from agentctl.supervisor.turn import Message, Turn
from agentctl.supervisor.turn_queue import CUT_OFF, TurnQueue

if TYPE_CHECKING:
    from agentctl.supervisor.session import Session

Json = dict[str, Any]
_LACKED_MEMORY = "; the kernel has killed processes of the sandbox because its memory was full."


class Turns:
    """``running`` is the turn that runs or waits, ``last`` the summary of the one that ended last, ``queue`` those that
    come after it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.running: Turn | None = None
        self.last: Json | None = None
        self._ended: dict[str, int] = {}
        self.queue = TurnQueue(session, self._ended)
        self._watch = StallWatch(
            heard_at=lambda: session.inbox.stirred_at,
            is_waiting=lambda: bool(session.desk.pending),
            stalled=self._stalled,
        )

    @property
    def is_busy(self) -> bool:
        """Whether a new message would have to wait."""
        return self.running is not None or bool(self.queue)

    def submit(self, message: Message) -> Json:
        """Start a turn, queue it, or name the one that has this id already: the 202 of ``wire.py``. While the agent is
        being started the turn waits for it.

        Raise ``SessionBusy``, ``QueueFull`` and ``UsageError``; nothing was begun then.
        """
        known = self._known(message.turn_id)
        if known is not None:
            return {"turn_id": message.turn_id, **known, "duplicate": True}
        session = self._session
        if session.failure is not None:
            raise session.failure
        if session.is_closed:
            raise errors.SandboxError("The session is being ended in its sandbox.")
        if self.is_busy and message.when_busy == "fail":
            raise errors.SessionBusy(
                "The session is busy with another turn.",
                hint="Wait for it, or end it with: agentctl sessions cancel SESSION",
                details={"turn_id": self.running.id if self.running else self.queue.turn_ids()[0]},
            )
        if session.agent is not None:
            session.agent.client.check_prompt(message.blocks)
        self._check_permissions(message)
        if not self.is_busy:
            self._begin(message)
            if session.failure is not None:  # nothing of it could be written
                raise session.failure
            return {"turn_id": message.turn_id, "status": "running", "duplicate": False, "position": 0}
        position = self.queue.add(message)
        if message.when_busy == "interrupt" and self.running is not None:
            self.end(self.running, "user")
        return {"turn_id": message.turn_id, "status": "queued", "duplicate": False, "position": position}

    def _known(self, turn_id: str) -> Json | None:
        if turn_id in self._ended:
            return {"status": "ended", "position": 0}
        if self.running is not None and self.running.id == turn_id:
            return {"status": "running", "position": 0}
        position = self.queue.position(turn_id)
        return {"status": "queued", "position": position} if position else None

    def _check_permissions(self, message: Message) -> None:
        if message.permissions is not None:
            settings.check_turn(self._session, message.permissions)

    def advance(self) -> None:
        """Begin the next queued turn when nothing runs. In an agent that cannot start, each fails in its turn."""
        session = self._session
        if self.running is None and self.queue and session.failure is None and not session.is_closed:
            self._begin(self.queue.next())

    def first_sequence(self, turn_id: str) -> int:
        """The number of the turn's first event; 1, the log's beginning, where only an earlier supervisor knew it."""
        running = self.running
        if running is not None and running.id == turn_id:
            return running.first_sequence
        return self._session.log.last_sequence + 1 if self.queue.position(turn_id) else self._ended.get(turn_id, 1)

    def _begin(self, message: Message) -> None:
        session = self._session
        turn = self.running = Turn(message)
        metadata = {
            "context": session.context,
            "timeout_s": message.timeout_s,
            "permissions": message.permissions or session.request.permissions,
        }
        turn.first_sequence = session.log.last_sequence + 1
        started = Draft("turn.started", {"phase": "started", "turn_id": turn.id, "metadata": metadata}, "daemon")
        session.write([started, *session.translator.user_message(message.text, message.attachments)])
        if message.timeout_s is not None:
            turn.after(message.timeout_s, self.end, turn, "timeout")
        session.touch()
        turn.task = asyncio.create_task(self._run(turn))

    async def _run(self, turn: Turn) -> None:
        session, message = self._session, turn.message
        try:
            agent = await session.ensure_agent()
            self._check_permissions(message)
            await settings.hold_to(session, agent.client, message.permissions)
            agent.client.check_prompt(message.blocks)
            turn.prompted = True
            session.meter.prompted()
            limit_s = message.stall_timeout_s
            self._watch.begin(session.request.stall_timeout_s if limit_s is None else limit_s)
            await agent.client.prompt(self._blocks(turn))
        except errors.AgentExited as e:
            turn.facts.error = await self._how_it_died(e)
        except errors.DeadlineExceeded as e:  # it does not read, or does not obey: nor would it in the next turn
            turn.facts.error = e
            if turn.prompted:
                self._stalled(time.monotonic() - session.inbox.stirred_at)
            await self._how_it_died(e)
        except errors.AgentctlError as e:
            turn.facts.error = e
        except BaseException:  # also a fault of ours: a turn that never ends would block its session
            self._finish(turn, interrupted=True)
            raise
        self._finish(turn)

    def _blocks(self, turn: Turn) -> list[Json]:
        """The message, after the transcript when the agent has lost the conversation and the user allowed a replay."""
        session = self._session
        past = replay_block(session.log, before=turn.first_sequence) if session.context == "replayed" else None
        return [past, *turn.message.blocks] if past else turn.message.blocks

    async def _how_it_died(self, error: errors.AgentctlError) -> errors.AgentctlError:
        session = self._session
        agent = session.agent
        if agent is None:
            return error
        lacked_memory = agent.process.lacked_memory
        facts = await session.bury(agent)
        said = (facts["stderr"]["tail"] or facts["stderr"]["head"]).split("\n")
        return errors.AgentExited(
            f"{session.recipe.name} ended in the middle of the turn (exit code {facts['exit_code']})"
            f"{_LACKED_MEMORY if lacked_memory else '.'}",
            hint=f"Its last words: {said[-1][:200]}" if said[-1] else None,
            details={**facts, "out_of_memory": lacked_memory},
        )

    def note(self, params: Any, drafts: list[Draft]) -> None:
        """Keep what the verdict on the running turn, and the session's usage, will need."""
        for draft in drafts:
            if draft.type == "usage.updated":
                self._session.meter.heard(draft.data)
        if self.running is None or not isinstance(params, dict) or not isinstance(params.get("update"), dict):
            return
        facts, update = self.running.facts, params["update"]
        match update.get("sessionUpdate"):
            case "agent_message_chunk":
                content = update.get("content")
                facts.said_text.append(str(content.get("text", "")) if isinstance(content, dict) else "")
            case "tool_call" | "tool_call_update":
                facts.used_tools = True
            case "session_info_update":
                codex = (update.get("_meta") or {}).get("codex") or {}
                facts.thread_status = (codex.get("threadStatus") or {}).get("type", facts.thread_status)
                facts.thread_error = codex.get("error", facts.thread_error)

    def note_text(self, piece: str) -> None:
        """The same for a piece of the agent's answer."""
        if self.running is not None:
            self.running.facts.said_text.append(piece)

    def answered(self, result: Any) -> None:
        """The prompt's answer was read: the turn ends here and now, since what follows is outside of it.

        An error as the answer ends it too, once ``_run`` has it as one of ours.
        """
        turn = self.running
        if turn is not None and isinstance(result, dict):
            turn.facts.response = result
            self._finish(turn)

    def denied(self, entry: Json) -> None:
        """A request of the running turn was rejected."""
        if self.running is not None:
            self.running.facts.denied.append(entry)

    def _finish(self, turn: Turn, *, interrupted: bool = False) -> None:
        """Write ``turn.ended``, durably, and be idle. Nothing happens when that was done already."""
        if turn is not self.running:
            return
        session, facts = self._session, turn.facts
        turn.stop_timers()
        self._watch.end()
        session.desk.cancel_all()
        stopped = interrupted or facts.ended_by is not None or facts.error is not None
        told = session.translator.prompt_result(facts.response or {}, None)
        self.note(None, told)
        usage, cost = session.meter.turn_ended(facts.response)
        summary = {
            **judge(facts, session.recipe),
            "context": session.context,
            "usage": usage,
            "cost": cost,
            "duration_ms": turn.duration_ms,
        }
        if interrupted:
            summary |= {"outcome": "interrupted", "error": CUT_OFF.to_json()}
        ended = Draft("turn.ended", {"phase": "ended", "turn_id": turn.id, "metadata": summary}, "daemon")
        session.write([*told, *session.translator.end_turn(stopped), ended], durable=True)
        self._ended[turn.id] = turn.first_sequence
        self.last = {"turn_id": turn.id, **summary}
        self.running = None
        if turn.prompted:
            session.context = "live"
        session.touch()
        if facts.ended_by == "stall" and (session.agent is None or session.agent.is_leaving):
            session.starter.warm()
        if self.queue:  # what was read together with the answer, and follows it, is outside of any turn
            asyncio.get_running_loop().call_soon(self.advance)

    def _stalled(self, silent_s: float) -> None:
        """Say that the agent has fallen silent, then end the turn."""
        turn = self.running
        if turn is None or turn.facts.ended_by is not None:
            return
        turn.stalled = True
        data = {"turn_id": turn.id, "silent_s": round(silent_s, 1)}
        self._session.write([Draft("turn.stalled", data, "daemon")])
        self.end(turn, "stall")

    def cancel_queued(self) -> None:
        """The session is terminated, not only its sandbox: what waits in line ends as cancelled."""
        for turn_id in self.queue.turn_ids():
            self.queue.cancel(turn_id)

    async def interrupt(self) -> None:
        """The supervisor leaves: the running turn ends as interrupted."""
        turn = self.running
        if turn is not None and turn.task is not None:
            turn.task.cancel()
            await asyncio.gather(turn.task, return_exceptions=True)

    def cancel(self, *, kill: bool, turn_id: str | None = None) -> Json:
        """End the running turn as cancelled: ask the agent, or with ``kill`` do not ask. With ``turn_id`` that turn,
        running or queued. Harmless when it has ended, or nothing runs. Raise ``TurnNotFound``."""
        turn = self.running
        if turn is not None and turn_id in (None, turn.id):
            self.end(turn, "user")
            if kill:
                self._session.kill_agent()
            return {"turn_id": turn.id, "cancelled": True}
        if turn_id is None or turn_id in self._ended:
            return {"turn_id": turn_id, "cancelled": False}
        if not self.queue.position(turn_id):
            raise errors.TurnNotFound(f"This sandbox knows of no turn {turn_id}.")
        self.queue.cancel(turn_id)
        return {"turn_id": turn_id, "cancelled": True}

    def end(self, turn: Turn, who: EndedBy) -> None:
        """Ask the agent to end this turn, and kill it when it does not within the grace. A turn that the agent has not
        heard of ends here."""
        if turn is not self.running or not turn.end_by(who):
            return
        session = self._session
        if not turn.prompted:
            self._finish(turn)
            if turn.task is not None:
                turn.task.cancel()
            return
        if who == "timeout":
            turn.facts.denied += session.desk.unanswered()
        session.desk.cancel_all()
        if session.agent is not None:
            session.agent.client.cancel()
        turn.after(session.recipe.cancel_grace_s, session.kill_agent)
