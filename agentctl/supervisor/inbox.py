"""What the agent says, in order: frames become drafts, collected per chunk and written before anyone sees them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from agentctl import ids
from agentctl.acp.client import refuse
from agentctl.acp.connection import REQUEST_CANCELLED, Connection
from agentctl.acp.translate import garbage
from agentctl.events import Draft
from agentctl.supervisor.requests import Terms

if TYPE_CHECKING:
    from agentctl.supervisor.history import Replayed
    from agentctl.supervisor.session import Session

Json = dict[str, Any]
QUIET_S = 0.7
QUIET_LIMIT_S = 20.0
LOOSE_S = 1.0
"""An item that was begun outside any turn is completed after this silence: no end of a turn will do it."""

_ASKS_A_PERSON: dict[str, Json] = {
    "session/request_permission": {"outcome": {"outcome": "cancelled"}},
    "elicitation/create": {"action": "cancel"},
}
"""The requests that we serve, and the answer that says that nobody decided."""


class Inbox:
    """The ``Handler`` of the agent's connection. Replayed items are read over: they are in our log already."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._drafts: list[Draft] = []
        self._connection: Connection | None = None
        self.stirred_at = time.monotonic()
        """When the agent was last heard, or told something."""
        self._tidying: asyncio.TimerHandle | None = None
        self._held = False
        self.replayed: Replayed | None = None
        """Takes note of what is read over, while a conversation is being restored."""

    def attach(self, connection: Connection) -> None:
        """What comes in now comes from here. An agent may ask before it has answered ``initialize``."""
        self._connection = connection
        connection.shortcut = self._more_text

    def respond(self, rpc_id: Any, result: Json) -> None:
        """Answer a request of the agent."""
        if self._connection is not None:
            self._connection.respond(rpc_id, result)

    def take(self) -> list[Draft]:
        """The drafts collected so far, given away; none while they are held."""
        if self._held:
            return []
        drafts, self._drafts = self._drafts, []
        return drafts

    def hold(self, held: bool) -> None:
        """While the agent opens its session, what it says waits: ``session.started`` comes first."""
        self._held = held

    async def quiet(self) -> None:
        """Wait until nothing has come for a moment: the only sign that a late replay has ended."""
        deadline = time.monotonic() + QUIET_LIMIT_S
        self.stirred_at = time.monotonic()
        while (left := min(self.stirred_at + QUIET_S, deadline) - time.monotonic()) > 0:  # noqa: ASYNC110 — silence is no event
            await asyncio.sleep(left)

    def notification(self, frame: Json, line: bytes) -> None:
        session = self._session
        if frame["method"] == "$/cancel_request":
            self._withdraw(frame.get("params"))
            return
        drafts = session.translator.notification(frame, line)
        if session.translator.replaying:
            if self.replayed is not None:
                self.replayed.note(drafts)
            drafts = [d for d in drafts if not d.type.startswith("item.")]
        self._drafts += drafts
        if frame["method"] == "session/update":
            session.turns.note(frame.get("params"), drafts)

    def _more_text(self, line: bytes) -> bool:
        """Most of what an agent says is a bit more of the text before: that need not be parsed."""
        draft = self._session.translator.more_text(line)
        if draft is None:
            return False
        self._drafts.append(draft)
        self._session.turns.note_text(draft.data["delta"])
        return True

    def request(self, frame: Json, line: bytes) -> None:
        session, method, params = self._session, frame["method"], frame.get("params")
        if not isinstance(params, dict) or method not in _ASKS_A_PERSON:
            self._drafts.append(Draft("agent.request_refused", {"method": method}, raw=line))
            if self._connection is not None:
                refuse(self._connection, frame)
            return
        if session.agent is None:  # before it has answered initialize: it has no session that a person could look at
            self._drafts.append(Draft("agent.request_refused", {"method": method}, raw=line))
            self.respond(frame["id"], _ASKS_A_PERSON[method])
            return
        terms = self._terms()
        if method == "elicitation/create":
            session.desk.question(ids.new_id("req"), frame["id"], params, terms)
            return
        self._drafts += session.translator.permission(params, line)
        self._ask(frame["id"], params, terms)

    def _ask(self, rpc_id: Any, params: Json, terms: Terms) -> None:
        session = self._session
        said = params.get("toolCall")
        call_id = str(said.get("toolCallId")) if isinstance(said, dict) else ""
        call = session.translator.tool_call(call_id) or (said if isinstance(said, dict) else {})
        offered = params.get("options")
        options = [o for o in offered if isinstance(o, dict)] if isinstance(offered, list) else []
        session.desk.permission(ids.new_id("req"), rpc_id, call, options, session.translator.item_id(call_id), terms)

    def _terms(self) -> Terms:
        request, turn = self._session.request, self._session.turns.running
        return Terms(
            mode=(turn.message.permissions if turn else None) or request.permissions,
            policy=request.policy,
            wait_s=turn.message.request_timeout_s if turn else None,
            cwd=request.cwd,
        )

    def _withdraw(self, params: Any) -> None:
        """The agent takes a request of its own back; it still gets an answer."""
        session = self._session
        rpc_id = params.get("requestId") if isinstance(params, dict) else None
        if session.desk.withdrawn(rpc_id) is not None and self._connection is not None:
            self._connection.respond_error(rpc_id, REQUEST_CANCELLED, "Request cancelled")

    def response(self, method: str, frame: Json, line: bytes) -> None:
        """What came before the prompt's answer belongs to the turn, what follows does not: write it now."""
        if method == "session/prompt":
            self._session.write([])
            self._session.turns.answered(frame.get("result"))

    def garbage(self, line: bytes, reason: str) -> None:
        self._drafts.append(garbage(line, reason))

    def sent(self, frame: Json) -> None:
        """Our own frames are told by the events that caused them; an answer is due from now on."""
        self.stirred_at = time.monotonic()

    def flushed(self) -> None:
        """Once per chunk read, not per frame: whatever the agent says, also outside any turn, is activity."""
        self.stirred_at = time.monotonic()
        self._session.touch()
        if self._held:
            return
        if self._drafts and self._session.turns.running is None:
            self._tidy_later()
        self._session.write([])

    def _tidy_later(self) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
        self._tidying = asyncio.get_running_loop().call_later(LOOSE_S, self._tidy)

    def _tidy(self) -> None:
        if self._session.turns.running is None:
            self._session.write(self._session.translator.end_turn(False))

    def closed(self, reason: str) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
        self._session.write([])
        self._session.agent_left()
