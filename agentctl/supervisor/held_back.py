"""A secret that comes in pieces: streamed text waits while its end may be the beginning of one.

The log's redaction sees one record at a time. Here the deltas of an item are seen together, before they are records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from agentctl.events import Draft
from agentctl.supervisor.redaction import REDACTED, forms_of

_DELTA = "item.delta"
_ENDS = ("turn.", "sandbox.")
"""What begins or ends around the items: nothing of before may come after it."""


class HeldBack:
    """Passes drafts on. Deltas that end like a secret begins wait until their item goes on otherwise or ends, or
    the turn does; those that make up a secret together become one, redacted. Whatever else is said meanwhile goes on:
    a request must not wait for a text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form.decode("utf-8", "surrogatepass") for form in forms_of(secrets)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._beginnings = re.compile("|".join({_beginning(form) for form in forms}) or r"(?!)")
        self._waiting: dict[str, list[Draft]] = {}

    def passed(self, drafts: Sequence[Draft]) -> Sequence[Draft]:
        """What may be written now, of what waited and of ``drafts``."""
        if not self._waiting and not self._is_any_open(drafts):
            return drafts
        out: list[Draft] = []
        for draft in drafts:
            if draft.type == _DELTA:
                self._delta(draft, out)
                continue
            if draft.type.startswith(_ENDS):
                self._let_go(list(self._waiting), out)
            elif draft.type == "item.completed":
                self._let_go([draft.data["item"]["item_id"]], out)
            out.append(draft)
        return out

    def _delta(self, draft: Draft, out: list[Draft]) -> None:
        """Put out what ends before an open end begins, and let the others wait."""
        item_id = draft.data["item_id"]
        waiting = self._waiting.pop(item_id, [])
        if draft.raw is None and (waiting or self._open_end(draft.data["delta"])):
            draft = _with_its_frame(draft, out)
        waiting.append(draft)
        said = "".join(d.data["delta"] for d in waiting)
        text = self._redacted(said)
        if text != said and len(waiting) > 1:
            # Frames with parts of a secret are not kept. A single delta is left to the log, with its frame.
            waiting = [waiting[0]._replace(data={**waiting[0].data, "delta": text}, raw=None)]
        left, first = self._open_end(text), len(waiting)
        while left > 0:
            first -= 1
            left -= len(waiting[first].data["delta"])
        out += waiting[:first]
        if first < len(waiting):
            self._waiting[item_id] = waiting[first:]

    def _let_go(self, item_ids: Iterable[str], out: list[Draft]) -> None:
        for item_id in item_ids:
            out += self._waiting.pop(item_id, ())

    def _redacted(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, REDACTED.decode())
        return text

    def _is_any_open(self, drafts: Sequence[Draft]) -> bool:
        search = self._beginnings.search
        for draft in drafts:  # each delta of a stream comes by here, most of them no further than the search
            if draft.type == _DELTA:
                text = draft.data["delta"]
                if search(text) and self._open_end(text):
                    return True
        return False

    def _open_end(self, text: str) -> int:
        """The length of the longest end of ``text`` that a secret begins with."""
        for found in self._beginnings.finditer(text):
            end = text[found.start() :]
            if any(len(form) > len(end) and form.startswith(end) for form in self._forms):
                return len(end)
        return 0


def _beginning(form: str) -> str:
    """A pattern for a character where the form may begin: its first four follow, or the end of the text."""
    first, second, third, fourth = map(re.escape, form[:4])
    return rf"{first}(?=\Z|{second}(?:\Z|{third}(?:\Z|{fourth})))"


def _with_its_frame(draft: Draft, out: list[Draft]) -> Draft:
    """A frame goes along with the first event that it made; where that is not the delta, it has to wait as well."""
    for place in reversed(range(len(out))):
        if (raw := out[place].raw) is not None:
            out[place] = out[place]._replace(raw=None)
            return draft._replace(raw=raw)
    return draft
