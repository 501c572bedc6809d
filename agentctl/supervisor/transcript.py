"""The conversation so far as text: what ``--on-lost replay`` gives to an agent that has lost its own memory of it."""

from __future__ import annotations

import json
import sys
from collections import deque
from typing import Any

from agentctl.events import text_of
from agentctl.supervisor.log.session_log import SessionLog

Json = dict[str, Any]
LIMIT_CHARS = 60_000
WINDOW_BYTES = 16 * 1024 * 1024
"""How much of the log's end is read for it, in whole segments."""

_INTRODUCTION = (
    "You have lost your memory of this conversation. What follows in <transcript> is its record"
    "{cut}; take it as what was said and done, do not do it again, and answer the message after it.\n"
    "<transcript>\n{text}\n</transcript>"
)


def replay_block(log: SessionLog, *, before: int) -> Json | None:
    """An ACP text block with the newest part of what came before event ``before``, at most ``LIMIT_CHARS`` of it.

    None when nothing was said.
    """
    entries: deque[str] = deque()
    after = log.before_last(WINDOW_BYTES)
    size, cut = 0, after > 0
    while page := log.read(after):
        after = page[-1].sequence
        for record in page:
            if record.sequence >= before or b'"type":"item.completed"' not in record.line:
                continue
            if entry := _entry(json.loads(record.line)["data"].get("item")):
                entries.append(entry)
                size += len(entry)
        while size > LIMIT_CHARS and len(entries) > 1:
            size -= len(entries.popleft())
            cut = True
    if not entries:
        return None
    text = "\n\n".join(entries)[-LIMIT_CHARS:]
    return {"type": "text", "text": _INTRODUCTION.format(cut=", its beginning left out" if cut else "", text=text)}


def has_words(log: SessionLog) -> bool:
    """Whether there is anything to replay: a log may be lost with the rest of its volume."""
    return replay_block(log, before=sys.maxsize) is not None


def _entry(item: Json | None) -> str | None:
    if item is None:
        return None
    if item["kind"] == "message" and (text := text_of(item)):
        return f"{'User' if item['role'] == 'user' else 'You'}: {text}"
    if item["kind"] == "tool_call":
        return f"You used a tool: {item['tool']['title']} ({item['status']})"
    return None
