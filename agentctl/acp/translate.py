"""ACP frames → universal events (``events.py``): a state machine per session, one draft or more for every frame.

Source: the ACP schema v1, stable and unstable ``session/update`` variants. What cannot be read becomes
``agent.unparsed``, with the frame in it: nothing is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from agentctl import events
from agentctl.acp.drafts import Drafts
from agentctl.acp.objects import object_of
from agentctl.acp.session_config import SessionConfig
from agentctl.acp.standing_items import StandingItems
from agentctl.acp.text_run import TextRun
from agentctl.acp.tool_items import ToolItems
from agentctl.events import Draft

Json = dict[str, Any]

MAX_GARBAGE_BYTES = 64 * 1024
_RUN_TRIES = 3
"""A text with escapes begins no run; an agent whose first ones do not, writes no frame like the other."""
_SHAPE_ERRORS = (KeyError, TypeError, AttributeError, ValueError, RecursionError)
_TEXT_VARIANTS = {
    "agent_message_chunk": ("message", "assistant"),
    "agent_thought_chunk": ("reasoning", "assistant"),
    "user_message_chunk": ("message", "user"),
    "session_message_chunk": ("message", "system"),
}


class Translator:
    """Stateful. Never raises for what an agent sends; every frame gives at least one draft, the first carries its line.

    Every item that starts completes exactly once, at the latest in ``end_turn``. A call that goes on after that (late
    updates) gives ``item.updated``, its further output a result item of its own. ``config`` is shared with
    ``AgentClient``. Set ``session_id`` to have updates of other sessions kept as ``agent.unparsed``.
    """

    def __init__(self, first_item: int = 1, config: SessionConfig | None = None) -> None:
        self.config = config or SessionConfig()
        self.session_id: str | None = None
        self._out = Drafts(first_item)
        self._out.settle = self._settle
        self._text: _Text | None = None
        self._tools = ToolItems(self._out)
        self._standing = StandingItems(self._out)
        self._told: Json = _state_of(SessionConfig())
        self._variants: dict[str, Callable[[Json], None]] = {
            **dict.fromkeys(_TEXT_VARIANTS, self._chunk),
            "session_message": self._session_message,
            "tool_call": self._tools.upsert,
            "tool_call_update": self._tools.upsert,
            "plan": self._standing.plan,
            "plan_update": self._standing.plan_update,
            "plan_removed": self._standing.plan_removed,
            "notice": self._standing.notice,
            "compaction_update": self._standing.compaction,
            "compaction_summary_chunk": self._standing.compaction_summary_chunk,
            "subagent_update": self._standing.subagent,
            "available_commands_update": self._commands,
            "current_mode_update": self._mode,
            "config_option_update": self._options,
            "session_info_update": self._info,
            "usage_update": self._usage,
        }

    @property
    def next_item(self) -> int:
        """The number of the next item; give it to the translator that goes on after a restart."""
        return self._out.next_item

    @property
    def replaying(self) -> bool:
        """Whether what comes in is history (``begin_replay``); every draft then has ``data["replayed"] = True``."""
        return self._out.replaying

    def notification(self, frame: Json, line: bytes | None) -> list[Draft]:
        """Any notification: ``session/update`` goes to ``update``, others become ``agent.unparsed``."""
        method = frame["method"]
        if method == "session/update":
            drafts = self.update(frame.get("params"), line)
            if self._text is not None and self._text.tries and len(drafts) == 1:
                self._text.try_run(frame, line, drafts[0])
            return drafts
        self._out.begin(line)
        self._out.unparsed(f"unknown notification {method}", method, frame)
        return self._out.list

    def more_text(self, line: bytes) -> Draft | None:
        """The draft of a line that goes on with the agent's answer as the lines before it did; None for any other,
        which has to be parsed."""
        text = self._text
        if text is None or text.run is None or self._out.replaying:
            return None
        piece = text.run.text(line)
        if piece is None:
            return None
        text.add(piece)
        return Draft("item.delta", text.delta(piece), raw=line)

    def update(self, params: Any, line: bytes | None) -> list[Draft]:
        """The params of a ``session/update``."""
        return self._translate(self._update, params, line, "session/update")

    def permission(self, params: Any, line: bytes | None) -> list[Draft]:
        """Upsert the tool call of a ``session/request_permission``. ``permission.requested`` itself is the caller's."""
        return self._translate(
            lambda p: self._tools.upsert(p["toolCall"], asked=True), params, line, "session/request_permission"
        )

    def prompt_result(self, result: Json, line: bytes | None) -> list[Draft]:
        """``usage.updated`` with the tokens of a prompt result, ``[]`` when it tells none."""
        self._out.begin(line)
        quota = object_of(object_of(result.get("_meta")).get("quota"))
        usage = result.get("usage") or quota.get("token_count")
        if isinstance(usage, dict):
            self._out.emit("usage.updated", {"usage": usage, "source": "prompt_result"})
        return self._out.list

    def user_message(self, text: str, attachments: list[Json] | None = None) -> list[Draft]:
        """Our own prompt as a completed item of the user (source ``daemon``); attachments are ACP content blocks."""
        self._out.begin(None)
        self._settle()
        item_id = self._out.new_item()
        content: list[Json] = [{"type": "text", "text": text}] if text else []
        content += [{"type": "acp", "content": block} for block in attachments or []]
        started = events.item(item_id, "message", role="user")
        self._out.emit("item.started", {"item": started}, "daemon")
        self._out.emit("item.completed", {"item": {**started, "status": "completed", "content": content}}, "daemon")
        return self._out.list

    def end_turn(self, cancelled: bool) -> list[Draft]:
        """Complete every open item. Call it when the prompt was answered, or will never be; also after unprompted talk.

        An open tool call ends ``failed`` when it was rejected or the turn cancelled. Else the agent may still be at it
        (codex does that): the item completes with status ``in_progress``, and a later end comes as ``item.updated``.
        """
        self._out.begin(None)
        self._settle()
        self._tools.end_turn(cancelled)
        self._standing.end_turn(cancelled)
        return self._out.list

    def rejected(self, call_id: str, detail: str) -> None:
        """The call was refused: if the agent never says how it ended, ``end_turn`` closes it as failed.

        ``detail`` says by whom. A call that is not known is ignored.
        """
        tool = self._tools.get(call_id)
        if tool:
            tool.rejected = detail

    def config_changed(self) -> list[Draft]:
        """``session.config_changed`` if ``config`` differs from what was told last; for after new, load, ``set_*``."""
        self._out.begin(None)
        if _state_of(self.config) != self._told:
            self._tell_config()
        return self._out.list

    def begin_replay(self) -> None:
        """What follows is history (``session/load``), until ``end_replay``."""
        self._out.replaying = True

    def end_replay(self) -> list[Draft]:
        """Close the replay's open items (drafts marked as well) and go live."""
        drafts = self.end_turn(cancelled=False)
        self._out.replaying = False
        return drafts

    def item_id(self, call_id: str) -> str | None:
        """The item of a tool call."""
        tool = self._tools.get(call_id)
        return tool.item_id if tool else None

    def tool_call(self, call_id: str) -> Json:
        """The merged ACP ToolCall so far, ``{}`` when unknown."""
        tool = self._tools.get(call_id)
        return dict(tool.merged) if tool else {}

    def _translate(self, read: Callable[[Any], None], params: Any, line: bytes | None, location: str) -> list[Draft]:
        """State and drafts change hand in hand, so what was said before a malformed part stays said."""
        self._out.begin(line)
        try:
            read(params)
        except _SHAPE_ERRORS as e:
            self._out.unparsed(f"malformed: {type(e).__name__}: {e}", location, params)
        return self._out.list

    def _update(self, params: Json) -> None:
        update = params["update"]
        variant = update["sessionUpdate"]
        if self.session_id is not None and params.get("sessionId", self.session_id) != self.session_id:
            self._out.unparsed("update of another session", "session/update", params)
        elif variant in self._variants:
            self._variants[variant](update)
        else:
            self._out.unparsed(f"unknown update {variant}", "session/update", params)

    def _chunk(self, update: Json) -> None:
        variant, native_id, content = update["sessionUpdate"], update.get("messageId"), update["content"]
        piece = content["text"] if content["type"] == "text" else None
        if piece is not None and not isinstance(piece, str):
            raise TypeError("text is no string")
        text = self._text
        if text is None or text.native_id != native_id or text.variant != variant:
            self._settle()
            text = self._text = _Text(self._out.new_item(), variant, native_id)
            self._out.item("started", text.item("in_progress"))
        if piece is None:
            text.parts.append({"type": "acp", "content": content})
            self._out.item("updated", text.item("in_progress"))
            return
        text.add(piece)
        self._out.emit("item.delta", text.delta(piece))

    def _session_message(self, update: Json) -> None:
        text = _Text("", "session_message_chunk", update["messageId"])
        text.parts = [{"type": "acp", "content": block} for block in update.get("content") or []]
        self._settle()
        text.item_id = self._out.new_item()
        self._out.item("started", text.item("in_progress"))
        self._out.item("completed", text.item("completed"))

    def _settle(self) -> None:
        """Another item starts: the open message is complete, and tool outputs that were waited for will not come."""
        text, self._text = self._text, None
        if text:
            self._out.item("completed", text.item("completed"))
        self._tools.settle()

    def _commands(self, update: Json) -> None:
        self._out.emit("commands.updated", {"commands": _list(update["availableCommands"])})

    def _mode(self, update: Json) -> None:
        mode = update.get("currentModeId", update.get("modeId"))  # some agents send the wrong name
        if not isinstance(mode, str):
            raise TypeError("currentModeId is no string")
        self.config.take_mode(mode)
        self._tell_config()

    def _options(self, update: Json) -> None:
        self.config.take_options(_list(update["configOptions"]))
        self._tell_config()

    def _info(self, update: Json) -> None:
        title = update.get("title", self.config.title)
        if title is not None and not isinstance(title, str):
            raise TypeError("title is no string")
        self.config.title = title
        self._tell_config(update.get("_meta"))

    def _tell_config(self, meta: Any = None) -> None:
        """The option list is long and goes along only when it changed: codex reports its state several times a turn."""
        before, now = self._told, _state_of(self.config)
        changed = [name for name in now if now[name] != before[name]]
        data = {**now, "options": now["options"] if "options" in changed else None, "changed": changed}
        if isinstance(meta, dict):
            data["meta"] = meta
        self._told = now
        self._out.emit("session.config_changed", data)

    def _usage(self, update: Json) -> None:
        known = {key: update[key] for key in ("used", "size", "cost") if update.get(key) is not None}
        self._out.emit("usage.updated", {**known, "source": "usage_update"})


class _Text:
    """A message or reasoning item while its chunks arrive. A run of text chunks is one part."""

    __slots__ = ("item_id", "native_id", "parts", "run", "tries", "variant")

    def __init__(self, item_id: str, variant: str, native_id: str | None) -> None:
        self.item_id = item_id
        self.variant = variant
        self.native_id = native_id
        self.parts: list[list[str] | Json] = []
        self.run: TextRun | None = None
        self.tries = _RUN_TRIES if variant == "agent_message_chunk" else 0

    def try_run(self, frame: Json, line: bytes | None, draft: Draft) -> None:
        """Whether what follows may be read as a run, after a frame that this item went on with."""
        if line is not None and draft.type == "item.delta":
            self.run = TextRun.of(line, frame, draft.data["delta"])
            self.tries = 0 if self.run else self.tries - 1

    def delta(self, piece: str) -> Json:
        data = {"item_id": self.item_id, "delta": piece}
        if self.native_id is not None:
            data["native_item_id"] = self.native_id
        return data

    def add(self, piece: str) -> None:
        if self.parts and isinstance(self.parts[-1], list):
            self.parts[-1].append(piece)
        else:
            self.parts.append([piece])

    def item(self, status: str) -> Json:
        kind, role = _TEXT_VARIANTS[self.variant]
        content = [_text_part(kind, "".join(p)) if isinstance(p, list) else p for p in self.parts]
        return events.item(self.item_id, kind, role=role, status=status, content=content, native_item_id=self.native_id)


def garbage(line: bytes, reason: str) -> Draft:
    """``agent.unparsed`` for a line that is no frame (``Handler.garbage``): its first 64 KiB as text, ``raw`` whole, as
    a JSON string: readers put it where frames are."""
    text = line[:MAX_GARBAGE_BYTES].decode(errors="replace")
    whole = json.dumps(line.decode(errors="replace")).encode()
    return Draft("agent.unparsed", {"error": reason, "location": "stdout", "raw": text}, raw=whole)


def _text_part(kind: str, text: str) -> Json:
    if kind == "reasoning":
        return {"type": "reasoning", "text": text, "visibility": "public"}
    return {"type": "text", "text": text}


def _state_of(config: SessionConfig) -> Json:
    return {
        "mode": config.mode,
        "model": config.model,
        "thought_level": config.thought_level,
        "title": config.title,
        "options": config.options,
    }


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} is no list")
    return value
