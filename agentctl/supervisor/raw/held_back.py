"""A secret that comes in pieces over several raw frames: as ``held_back.py``, for the clients of raw ACP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from agentctl.events import Draft
from agentctl.supervisor.held_back import HeldBack
from agentctl.supervisor.log.records import dump

Json = dict[str, Any]
MESSAGE = "acp.message"
_PIECE, _BOUNDARY = "item.delta", "turn.boundary"
_CHUNKS = ("agent_message_chunk", "agent_thought_chunk", "user_message_chunk")
_BESIDE = ("usage_update", "session_info_update", "available_commands_update", "config_option_update")
"""What is said while a text goes on."""


class RawHeldBack:
    """``passed`` gives what may be written now, in order; a frame of text waits only while its end may be the
    beginning of a secret. Frames that make up a secret together become one."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._held_back = HeldBack(secrets)

    def passed(self, drafts: Sequence[Draft]) -> list[Draft]:
        """``drafts`` have their frame in ``raw``, and in ``data["frame"]`` where they are an update."""
        marked: list[Draft] = []
        for draft in drafts:
            frame = draft.data.get("frame")
            if frame is None or not _is_beside(frame):
                piece = _piece(frame) if frame is not None else None
                marked.append(draft._replace(type=_PIECE, data={**draft.data, **piece}) if piece else _END)
                if piece:
                    continue
            marked.append(draft)
        return [_frame_of(draft) for draft in self._held_back.passed(marked) if draft is not _END]


_END = Draft(_BOUNDARY, {})


def _update(frame: Json) -> Json:
    params = frame.get("params")
    update = params.get("update") if isinstance(params, dict) else None
    return update if isinstance(update, dict) else {}


def _is_beside(frame: Json) -> bool:
    return _update(frame).get("sessionUpdate") in _BESIDE


def _piece(frame: Json) -> Json | None:
    """The text of a chunk, and which text it belongs to."""
    update = _update(frame)
    variant, content = update.get("sessionUpdate"), update.get("content")
    if variant not in _CHUNKS or not isinstance(content, dict) or not isinstance(content.get("text"), str):
        return None
    text = f"{frame['params'].get('sessionId')} {variant} {update.get('messageId')}"
    return {"item_id": text, "delta": content["text"]}


def _frame_of(draft: Draft) -> Draft:
    if draft.raw is not None:
        return draft._replace(type=MESSAGE, data={})
    frame, update = draft.data["frame"], _update(draft.data["frame"])
    content = {**update["content"], "text": draft.data["delta"]}
    rewritten = {**frame, "params": {**frame["params"], "update": {**update, "content": content}}}
    return Draft(MESSAGE, {}, raw=dump(rewritten))
