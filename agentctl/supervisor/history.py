"""What our log knows of a conversation, against what an agent replays when it says that it has loaded it.

Agents answer ``session/load`` with success and an empty conversation; so they are believed only as far as they replay.
Only messages of this native session count, of turns that the agent took to their end: an interrupted one it may have
heard or not.
"""

from __future__ import annotations

import json
import re
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentctl import errors
from agentctl.events import text_of
from agentctl.supervisor.log.records import dump

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentctl.events import Draft
    from agentctl.supervisor.log.session_log import SessionLog

Json = dict[str, Any]
WINDOW_BYTES = 32 * 1024 * 1024
"""How much of the log's end is compared, in whole segments."""

_MOST_MESSAGES = 2000
_MOST_CHARS = 4000
_BEGINNING = 50
_TAKEN = {"completed", "limit", "denied"}


class Replayed:
    """Collects the user's messages of a replay. ``skip`` are patterns of such that no user wrote."""

    def __init__(self, skip: Iterable[str] = ()) -> None:
        self.messages: deque[str] = deque(maxlen=_MOST_MESSAGES)
        self.is_empty = True
        self._skip = [re.compile(pattern) for pattern in skip]

    def note(self, drafts: Iterable[Draft]) -> None:
        for draft in drafts:
            if not draft.type.startswith("item."):
                continue
            self.is_empty = False
            item = draft.data.get("item")
            if draft.type == "item.completed" and item and (item["kind"], item["role"]) == ("message", "user"):
                text = text_of(item)
                if not any(pattern.search(text) for pattern in self._skip):
                    self.messages.append(_plain(text))


def check_replay(log: SessionLog, native_session_id: str, replayed: Replayed) -> Json | None:
    """``{"known", "replayed", "missing"}`` for ``session.history_differs`` when the last message is not among those
    replayed; None when it is. Raise ``ContextLost`` when nothing was replayed of a conversation that has turns."""
    known = _known_messages(log, native_session_id)
    if known and replayed.is_empty:
        raise errors.ContextLost("the agent replayed nothing")
    told = "\n".join(replayed.messages)
    missing = sum(text not in told for text in known)
    if not known or known[-1] in told:
        return None
    return {"known": len(known), "replayed": len(replayed.messages), "missing": missing}


def is_blank(log: SessionLog, native_session_id: str) -> bool:
    """Whether the log tells of this native session from its making on, and of no turn: then nothing can be lost."""
    if log.first_sequence != 1:
        return False
    mark, after, made = b'"native_session_id":%b' % dump(native_session_id), 0, False
    while page := log.read(after):
        after = page[-1].sequence
        if any(b'"type":"turn.started"' in record.line for record in page):
            return False
        made = made or any(mark in record.line for record in page)
    return made


def check_place(log: SessionLog, cwd: str) -> None:
    """Raise ``UsageError`` when the conversation was begun in another directory: agents keep their memory of it by its
    directory, and would look for it in the wrong place."""
    if log.first_sequence != 1:
        return
    for record in log.read(0, limit=_BEGINNING):
        if b'"type":"session.started"' in record.line:
            begun = json.loads(record.line)["data"]["metadata"].get("cwd", cwd)
            if begun != cwd:
                raise errors.UsageError(
                    f"This conversation was begun in {begun} and cannot go on in {cwd}.",
                    hint="Create another session for the other directory.",
                )
            return


def begun_at(log: SessionLog, native_session_id: str) -> float | None:
    """When the agent made this native session, as far back as the log is searched."""
    after = log.before_last(WINDOW_BYTES)
    native = dump(native_session_id)
    while page := log.read(after):
        after = page[-1].sequence
        for record in page:
            if b'"native_session_id":%b' % native in record.line:
                said: str = json.loads(record.line)["time"]
                return datetime.fromisoformat(said).timestamp()
    return None


def _known_messages(log: SessionLog, native_session_id: str) -> list[str]:
    """The user's messages in the newest part of the log, oldest first, cut to what is compared."""
    known: deque[str] = deque(maxlen=_MOST_MESSAGES)
    said: dict[str, str] = {}
    after = log.before_last(WINDOW_BYTES)
    while page := log.read(after):
        after = page[-1].sequence
        for record in page:
            if b'"role":"user"' in record.line and b'"type":"item.completed"' in record.line:
                event = json.loads(record.line)
                if event["source"] == "daemon" and event["turn_id"]:
                    said[event["turn_id"]] = _plain(text_of(event["data"]["item"]))
            elif b'"type":"turn.ended"' in record.line:
                event = json.loads(record.line)
                text = said.pop(event["data"]["turn_id"], None)
                mine = event["native_session_id"] == native_session_id
                if text is not None and mine and event["data"]["metadata"]["outcome"] in _TAKEN:
                    known.append(text)
    return list(known)


def _plain(text: str) -> str:
    """Adapters change white space."""
    return " ".join(text.split())[:_MOST_CHARS]
