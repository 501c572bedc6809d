"""The turns of a session, one at a time: begun, prompted, ended for one reason, told as one outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.events import Draft
from agentctl.supervisor import settings
from agentctl.supervisor.outcome import EndedBy, judge
from agentctl.supervisor.transcript import replay_block
from agentctl.supervisor.turn import CANCEL_GRACE_S, Message, Turn, cost_of_turn, usage_of_turn

if TYPE_CHECKING:
    from agentctl.supervisor.session import Session

Json = dict[str, Any]
_CUT_OFF = errors.SandboxError("The turn was cut off: its sandbox was ended before the agent had answered.")


class Turns:
    """``running`` is the turn that runs or waits, ``last`` the summary of the one that ended last."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.running: Turn | None = None
        self.last: Json | None = None
        self._ended: dict[str, int] = {}

    def submit(self, message: Message) -> Json:
        """Start a turn, or name the one that has this id already. While the agent is being started it waits for it.

        Raise ``SessionBusy`` and ``UsageError``; nothing was begun then.
        """
        session, running = self._session, self.running
        if message.turn_id in self._ended or (running is not None and running.id == message.turn_id):
            status = "ended" if message.turn_id in self._ended else "running"
            return {"turn_id": message.turn_id, "status": status, "duplicate": True}
        if session.failure is not None:
            raise session.failure
        if running is not None:
            raise errors.SessionBusy(
                "The session is busy with another turn.",
                hint="Wait for it, or end it with: agentctl sessions cancel SESSION",
                details={"turn_id": running.id},
            )
        if message.permissions is not None:
            settings.check_turn(session, message.permissions)
        if session.agent is not None:
            session.agent.client.check_prompt(message.blocks)
        turn = self.running = Turn(message)
        self._begin(turn)
        turn.task = asyncio.create_task(self._run(turn))
        return {"turn_id": turn.id, "status": "running", "duplicate": False}

    def first_sequence(self, turn_id: str) -> int:
        """The number of the turn's first event; 1, the log's beginning, where only an earlier supervisor knew it."""
        running = self.running
        return running.first_sequence if running is not None and running.id == turn_id else self._ended.get(turn_id, 1)

    def _begin(self, turn: Turn) -> None:
        session, message = self._session, turn.message
        turn.cost_before = session.cost
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

    async def _run(self, turn: Turn) -> None:
        session = self._session
        try:
            agent = await session.ensure_agent()
            await settings.hold_to(session, agent.client, turn.message.permissions)
            agent.client.check_prompt(turn.message.blocks)
            turn.prompted = True
            await agent.client.prompt(self._blocks(turn))
        except errors.AgentExited as e:
            turn.facts.error = await self._how_it_died(e)
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

    async def _how_it_died(self, error: errors.AgentExited) -> errors.AgentctlError:
        session = self._session
        agent = session.agent
        if agent is None:
            return error
        facts = await session.bury(agent)
        tail = facts["stderr"]["tail"] or facts["stderr"]["head"]
        return errors.AgentExited(
            f"{session.recipe.name} ended in the middle of the turn (exit code {facts['exit_code']}).",
            hint=f"Its last words: {tail[-1][:200]}" if tail else None,
            details=facts,
        )

    def note(self, params: Any, drafts: list[Draft]) -> None:
        """Keep what the verdict on the running turn, and the session's usage, will need."""
        for draft in drafts:
            if draft.type == "usage.updated":
                self._note_usage(draft.data)
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

    def _note_usage(self, data: Json) -> None:
        session = self._session
        session.usage = {**(session.usage or {}), **{k: v for k, v in data.items() if k != "cost"}}
        session.cost = data.get("cost") or session.cost

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
        session.desk.cancel_all()
        stopped = interrupted or facts.ended_by is not None or facts.error is not None
        told = session.translator.prompt_result(facts.response or {}, None)
        self.note(None, told)
        summary = {
            **judge(facts, session.recipe),
            "context": session.context,
            "usage": usage_of_turn(facts.response),
            "cost": cost_of_turn(turn.cost_before, session.cost),
            "duration_ms": turn.duration_ms,
        }
        if interrupted:
            summary |= {"outcome": "interrupted", "error": _CUT_OFF.to_json()}
        ended = Draft("turn.ended", {"phase": "ended", "turn_id": turn.id, "metadata": summary}, "daemon")
        session.write([*told, *session.translator.end_turn(stopped), ended], durable=True)
        self._ended[turn.id] = turn.first_sequence
        self.last = {"turn_id": turn.id, **summary}
        self.running = None
        if turn.prompted:
            session.context = "live"
        session.touch()

    def close_interrupted(self, turn_id: str) -> None:
        """A turn that an earlier supervisor took to its grave is told as what it is."""
        summary: Json = {"outcome": "interrupted", "stop_reason": None, "error": _CUT_OFF.to_json(), "denied": []}
        self._ended[turn_id] = 1
        draft = Draft("turn.ended", {"phase": "ended", "turn_id": turn_id, "metadata": summary}, "daemon", True)
        self._session.log.append([draft], turn_id=turn_id, durable=True)

    async def interrupt(self) -> None:
        """The supervisor leaves: the running turn ends as interrupted."""
        turn = self.running
        if turn is not None and turn.task is not None:
            turn.task.cancel()
            await asyncio.gather(turn.task, return_exceptions=True)

    def cancel(self, *, kill: bool) -> Json:
        """End the running turn as cancelled: ask the agent, or with ``kill`` do not ask. Harmless when idle."""
        turn = self.running
        if turn is None:
            return {"turn_id": None, "cancelled": False}
        self.end(turn, "user")
        if kill:
            self._session.kill_agent()
        return {"turn_id": turn.id, "cancelled": True}

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
        turn.after(CANCEL_GRACE_S, session.kill_agent)
