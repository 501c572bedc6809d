"""The universal event schema (the shape of sandbox-agent v0.1.12 with our additions).

An event is one JSON object, one line of a session's log::

    {"sequence": 7, "event_id": "evt_7", "time": "2026-11-21T09:00:00.123Z", "session_id": "ses_…",
     "native_session_id": "…" | null, "turn_id": "trn_…" | null, "source": "agent" | "daemon",
     "synthetic": false, "type": "item.delta", "data": {…}}

``sequence`` counts from 1 without gaps. ``turn_id`` is null for what happens outside any turn. ``source`` is ``agent``
for what a frame said and ``daemon`` for what the supervisor said; ``synthetic`` marks an event that the supervisor made
up so that every item has a start and an end. ``raw`` (only with ``include_raw``) is the ACP frame it came from.

======================  ===========================================================================================
type                    data
======================  ===========================================================================================
session.started         ``{"metadata": {"agent", "agentInfo", "capabilities", "context", "cwd"}}``
session.ended           ``{"reason": "completed"|"error"|"terminated", "terminated_by": "agent"|"daemon",
                        "message"?, "exit_code"?, "stderr"?: {"head", "tail", "truncated", "total_lines"}}``:
                        the session was terminated; an agent process that comes and goes does not end it
session.config_changed  ``{"mode", "model", "thought_level", "title", "options", "changed": [names]}``; ``options`` is
                        the agent's full ACP ``configOptions`` list, null when it did not change; keys not known are
                        null; ``"meta"?`` is the ``_meta`` of a ``session_info_update``
session.context_lost    ``{"reason", "tried": ["resume","load"], "action": "fail"|"new"|"replay"}``
session.history_differs ``{"known", "replayed", "missing"}`` (ours): user messages in our log, in what the agent
                        replayed at its load, and of ours that it did not replay
turn.queued             ``{"turn_id", "message": Message}`` (ours), outside any turn: acknowledged, and not begun;
                        with ``whenBusy`` ``interrupt`` at the head of the queue. ``turn.started`` or a
                        ``turn.ended`` with outcome ``cancelled`` follows, whatever dies in between
turn.started            ``{"phase": "started", "turn_id", "metadata": {"context", "timeout_s", "permissions"}}``
turn.ended              ``{"phase": "ended", "turn_id", "metadata": TurnSummary}``, see below
turn.stalled            ``{"turn_id", "silent_s"}``
item.started            ``{"item": Item}``
item.delta              ``{"item_id", "native_item_id"?, "delta": text}``
item.updated            ``{"item": Item}`` (ours): an item that changed in place, such as a tool call or a plan
item.completed          ``{"item": Item}`` with the whole content
permission.requested    ``{"permission_id", "action": title, "status": "requested", "metadata": {"tool_call": ACP
                        ToolCallUpdate, "item_id"?, "options": [{"optionId","name","kind"}], "expires_at"?: Unix s}}``
permission.resolved     ``{"permission_id", "action", "status": "accept"|"accept_for_session"|"reject",
                        "metadata": {"by": "user"|"policy"|"timeout"|"cancel"|"agent", "option_id"?, "rule"?}}``
question.requested      ``{"question_id", "prompt", "options": [], "status": "requested",
                        "metadata": {"schema": flat JSON Schema, "mode": "form"|"url", "url"?}}``
question.resolved       ``{"question_id", "prompt", "status": "answered"|"rejected", "response"?, "metadata": {"by"}}``
usage.updated           ``{"used"?, "size"?, "cost"?: {"amount","currency"}, "usage"?: {…tokens}, "source"}``;
                        ``source`` is ``usage_update`` or ``prompt_result``
commands.updated        ``{"commands": [ACP AvailableCommand]}``
error                   ``{"message", "code"?, "details"?}``
agent.unparsed          ``{"error", "location", "raw"}``: an unknown variant or garbage on stdout; kept, never dropped
agent.request_refused   ``{"method"}`` (ours): the agent asked for what it was not offered, and got an error
sandbox.*               lifecycle: ``sandbox.agent_started`` (data of session.started), ``sandbox.agent_exited``
                        ``{"exit_code", "how", "stderr"}``, ``sandbox.hibernated`` · ``released`` · ``terminated``;
                        with a kept log and HOME (``supervisor/keep``): ``sandbox.restored`` ``{"log"?: {"last",
                        "problem": "torn"|"missing"|null}, "home"?: {"number": int|null, "refused": [{"number",
                        "reason"}]}}``, ``sandbox.keep_failed`` ``{"what": "log"|"home", "message", "code", "hint"}``,
                        ``sandbox.keep_resumed`` ``{"what"}``
log.*                   of the log itself: ``log.gap`` ``{"from","to"}`` numbers that are not in it, ``log.torn``
                        ``{"file","bytes"}`` what a crash tore, ``log.taken_over`` ``{"from","to"}`` fencing numbers:
                        its writer lost it to a later one while it was alive
======================  ===========================================================================================

Item: ``{"item_id": "itm_N", "native_item_id": str|null, "parent_id": str|null, "kind", "role", "status", "content"}``.

* ``kind``: ``message`` · ``reasoning`` · ``tool_call`` · ``tool_result`` · ``plan`` · ``status`` · ``system`` ·
  ``unknown``
* ``role``: ``user`` · ``assistant`` · ``system`` · ``tool`` · null; ``status``: ``in_progress`` · ``completed`` ·
  ``failed``
* a ``tool_call`` item also has ``"tool": {"call_id", "name", "title", "kind", "locations", "raw_input"}``
* a ``tool_result`` item has ``parent_id`` of its call and ``"exit_code": int|null``
* a call that was still running when its turn ended completes with status ``in_progress``; its end comes later as
  ``item.updated``, its further output as another ``tool_result``
* what an agent replays of its history has ``"replayed": true`` in ``data``

Content parts: ``{"type":"text","text"}`` · ``{"type":"reasoning","text","visibility"}`` · ``{"type":"json","json"}`` ·
``{"type":"tool_call","name","arguments","call_id"}`` · ``{"type":"tool_result","call_id","output"}`` ·
``{"type":"file_ref","path","action","diff"}`` (``diff`` is a unified diff; cut when ``"truncated": true``) ·
``{"type":"image","path","mime"}`` ·
``{"type":"status","label","detail"}`` · ``{"type":"acp","content"}`` for any other ACP content block, untouched.

TurnSummary: ``{"outcome", "stop_reason", "context", "usage", "cost", "duration_ms", "denied": [{"permission_id",
"action", "by"}], "error": error JSON | null}``. Usage, null when nothing was told: ``{"input_tokens"?,
"output_tokens"?, "cached_read_tokens"?, "cached_write_tokens"?, "thought_tokens"?, "total_tokens"?, "models"?: [the
same with "model"], "context_used"?, "context_size"?, "source": the message that told it}``.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Source = Literal["agent", "daemon"]
Json = dict[str, Any]


class Draft(NamedTuple):
    """An event before the log has given it a number. ``raw`` is the frame's line without its newline."""

    type: str
    data: Json
    source: Source = "agent"
    synthetic: bool = False
    raw: bytes | None = None


class Event(NamedTuple):
    """An event as read back: its number, its JSON object, and the very bytes of its line (no newline, no raw part)."""

    sequence: int
    body: Json
    line: bytes

    @property
    def type(self) -> str:
        kind: str = self.body["type"]
        return kind

    @property
    def data(self) -> Json:
        data: Json = self.body["data"]
        return data

    @property
    def turn_id(self) -> str | None:
        turn_id: str | None = self.body.get("turn_id")
        return turn_id


def item(
    item_id: str,
    kind: str,
    *,
    role: str | None = None,
    status: str = "in_progress",
    content: list[Json] | None = None,
    native_item_id: str | None = None,
    parent_id: str | None = None,
    **extra: Any,
) -> Json:
    """Build an Item with every fixed key present."""
    return {
        "item_id": item_id,
        "native_item_id": native_item_id,
        "parent_id": parent_id,
        "kind": kind,
        "role": role,
        "status": status,
        "content": content or [],
        **extra,
    }


def text_of(item_: Json) -> str:
    """The text parts of an item, joined."""
    return "".join(p["text"] for p in item_["content"] if p["type"] in ("text", "reasoning"))
