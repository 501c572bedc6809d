"""One turn of the mock agent: it thinks, does what the knobs say in their order, answers, and ends as they say."""

from __future__ import annotations

import threading
import time

from agentctl.supervisor.mock.knobs import ACTIONS, SETTINGS, Knobs
from agentctl.supervisor.mock.wire import line_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from agentctl.supervisor.mock.sessions import Session
    from agentctl.supervisor.mock.wire import Answer, Wire

    Json = dict[str, Any]

THOUGHT = "I am the built-in mock agent: no model thinks here. I repeat what you say; /help shows what else I can do."
CONTEXT_SIZE = 200_000
_CHUNKS = 12


class Cancelled(Exception):
    """The client cancelled this turn."""


class Over(Exception):
    """The turn ends here, with this stop reason."""

    def __init__(self, stop_reason: str) -> None:
        super().__init__(stop_reason)
        self.stop_reason = stop_reason


class Turn:
    """A running prompt. ``play`` runs in a thread of its own; ``cancel`` comes from the reading thread."""

    def __init__(
        self, wire: Wire, session: Session, request_id: Any, blocks: list[Json], knobs: Knobs, client: Json
    ) -> None:
        self.wire = wire
        self.session = session
        self.request_id = request_id
        self.blocks = blocks
        self.knobs = knobs
        self.client = client
        self.prompt = prompt_text(blocks)
        self.cancelled = threading.Event()
        self.cancel_code: int | None = None
        self.said: list[str] = []
        self.afterwards: list[Callable[[], None]] = []
        """What is left to do after the answer."""
        self._unflushed = 0
        batch = knobs.settings.get("batch")
        self._batch = 0 if batch is None else knobs.number("batch", 1 << 60)

    def cancel(self, code: int | None = None) -> None:
        """``code`` is the error that ends the prompt (``$/cancel_request``), None for a stop reason."""
        if self.knobs.has("ignore-cancel"):
            return
        self.cancel_code = self.knobs.number("cancel-error", -32603) if self.knobs.has("cancel-error") else code
        self.cancelled.set()

    def play(self, on_answer: Callable[[], object]) -> None:
        """Run to the end. ``on_answer`` is called just before the answer goes out: the next prompt may come then."""
        first = not self.session.user_messages()
        self.session.remember("user", self.prompt)
        stop_reason = self.knobs.settings.get("stop") or "end_turn"
        try:
            self._act()
        except Cancelled:
            stop_reason = self.knobs.settings.get("cancel-stop") or "cancelled"
        except Over as over:
            stop_reason = over.stop_reason
        self._finish(stop_reason, first, on_answer)

    def _act(self) -> None:
        from agentctl.supervisor.mock.actions import ACTION_TABLE

        if not self.knobs.actions and not self.knobs.settings:
            self.think(THOUGHT)
        for name, value, bang in self.knobs.actions:
            self.check()
            ACTION_TABLE[name](self, value, bang)
        if self.prompt.strip() == "/help":
            self.say(f"Words that I obey in a prompt, in their order:\n```{ACTIONS}```\nand how:\n```{SETTINGS}```")
        elif not self.knobs.actions:
            self._answer(f"mock: {self.knobs.text}")

    def _answer(self, text: str) -> None:
        """In several chunks, between words where there are some."""
        step = max(len(text) // _CHUNKS, 4)
        start = 0
        while start < len(text):
            end = text.find(" ", start + step) + 1 or len(text)
            self.say(text[start:end])
            start = end
            self.pause()

    # What actions use

    def say(self, text: str) -> None:
        self.said.append(text)
        self.chunk("agent_message_chunk", text)

    def tell(self, line: str) -> None:
        """A line of the answer that an action gives."""
        self.say(line if not self.said or self.said[-1].endswith("\n") else "\n" + line)

    def think(self, text: str) -> None:
        self.chunk("agent_thought_chunk", text)

    def chunk(self, kind: str, text: str) -> None:
        self.update(kind, content={"type": "text", "text": text})

    def update(self, variant: str, /, **fields: Any) -> None:
        update = {"sessionUpdate": variant, **fields}
        params = {"sessionId": self.session.id, "update": update}
        self.queue(line_of({"jsonrpc": "2.0", "method": "session/update", "params": params}))

    def queue(self, line: bytes) -> None:
        """Send a line at once, or in batches when ``@batch`` says so."""
        if not self._batch:
            self.wire.send_bytes(line)
            return
        self._unflushed += 1
        full = self._unflushed >= self._batch
        self._unflushed = 0 if full else self._unflushed
        self.wire.queue(line, limit=0 if full else 1 << 60)

    def check(self) -> None:
        if self.cancelled.is_set():
            raise Cancelled

    def pause(self, seconds: float | None = None) -> None:
        """Wait for ``seconds`` (default ``@delay``); a cancel ends it."""
        delay = self.knobs.seconds("delay") if seconds is None else seconds
        if delay:
            self.wire.flush()
            self.cancelled.wait(delay)
        self.check()

    def ask(self, method: str, params: Json) -> Json:
        """A request to the client; its result, or ``{"error": …}``. A cancel ends the wait."""
        answer = self.wire.request(method, {"sessionId": self.session.id, **params})
        while not answer.came.wait(0.02):
            self.check()
        return self._settled(answer)

    def _settled(self, answer: Answer) -> Json:
        result = answer.result()
        if result.get("outcome") == {"outcome": "cancelled"}:
            self.cancelled.wait(0.05)  # the cancel itself may be right behind
            self.check()
        return result

    # The end

    def _finish(self, stop_reason: str, first: bool, on_answer: Callable[[], object]) -> None:
        text = "".join(self.said)
        self.session.remember("agent", text)
        usage = self._usage(len(self.prompt) // 4 + 1, len(text) // 4 + 1)
        if first and not self.session.title:
            self.session.title = " ".join(self.prompt.split())[:60] or "Mock session"
            self.update("session_info_update", title=self.session.title)
        self.session.save_facts()
        self.wire.flush()
        on_answer()
        self._respond(stop_reason, usage)
        self._late()

    def _usage(self, sent: int, received: int) -> Json:
        """Tell the state of the context window; return the members that the answer has."""
        given = self.knobs.settings.get("usage")
        if given == "none":
            return {}
        if given == "null":
            return {"usage": None}
        total = self.knobs.number("usage", sent + received)
        self.session.used += total
        amount = self.knobs.settings.get("cost")
        cost = {} if amount is None else {"cost": {"amount": self.knobs.seconds("cost"), "currency": "USD"}}
        self.update("usage_update", used=self.session.used, size=CONTEXT_SIZE, **cost)
        return {"usage": {"totalTokens": total, "inputTokens": max(total - received, 0), "outputTokens": received}}

    def _respond(self, stop_reason: str, usage: Json) -> None:
        knobs, result = self.knobs, {"stopReason": stop_reason, **usage}
        code = self.cancel_code if self.cancelled.is_set() else knobs.number("error", 0)
        error = {"code": code, "message": "The mock agent fails as it was told."}
        outcome: Json = {"error": error} if code else {"result": result}
        if knobs.has("both"):
            outcome = {"result": result, "error": {**error, "code": -32603}}
        answer_id = "nobody-asked" if knobs.has("wrong-id") else self.request_id
        if knobs.has("string-id"):
            answer_id = str(answer_id)
        if not knobs.has("no-answer"):
            line = line_of({"jsonrpc": "2.0", "id": answer_id, **outcome})
            self.wire.send_bytes(line * 2 if knobs.has("twice") else line)

    def _late(self) -> None:
        late = self.knobs.number("late", 0)
        if late or self.afterwards:
            time.sleep(self.knobs.seconds("late-delay"))
        for step in self.afterwards:
            step()
        for number in range(late):
            self.chunk("agent_message_chunk", f"late {number + 1} ")
            time.sleep(self.knobs.seconds("late-every"))
        self.wire.flush()


def prompt_text(blocks: list[Json]) -> str:
    """The text of a prompt; other blocks as ``[image]``, links by their uri."""
    parts = []
    for block in blocks:
        kind = block.get("type")
        resource = block.get("resource", block)
        parts.append(block["text"] if kind == "text" else f"[{resource.get('uri') or kind}]")
    return "\n".join(parts)
