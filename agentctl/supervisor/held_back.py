"""A secret that comes in pieces: streamed text waits while its end may be the beginning of one.

The log's redaction sees one record at a time. Here the deltas of an item are seen together, before they are records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentctl.events import Draft
from agentctl.supervisor.redaction import REDACTED, forms_of

_DELTA = "item.delta"


class HeldBack:
    """Passes drafts on, in order. A delta that ends like a secret begins waits, and with it all that follows, until
    the text goes on otherwise, or its item or the turn ends; deltas that make up a secret together become
    one, redacted."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form.decode("utf-8", "surrogatepass") for form in forms_of(secrets)}
        self._forms = sorted(forms, key=len, reverse=True)
        self._waiting: list[Draft] = []

    def passed(self, drafts: Sequence[Draft]) -> list[Draft]:
        """What may be written now, of what waited and of ``drafts``."""
        if not self._forms:
            return list(drafts)
        out: list[Draft] = []
        todo = list(drafts)
        while todo:
            todo = self._take(todo.pop(0), out) + todo
        return out

    def _take(self, draft: Draft, out: list[Draft]) -> list[Draft]:
        """Put ``draft`` into ``out`` or behind what waits; return what has to be looked at again."""
        if not self._waiting:
            return self._begin(draft, out)
        item_id = self._waiting[0].data["item_id"]
        if draft.type == _DELTA and draft.data["item_id"] == item_id:
            return self._go_on(draft, out)
        self._waiting.append(draft)
        if _item_of(draft) != item_id and draft.type != "turn.ended":
            return []
        return self._let_go(out)

    def _begin(self, draft: Draft, out: list[Draft]) -> list[Draft]:
        if draft.type == _DELTA and self._partial(draft.data["delta"]):
            self._waiting = [draft]
        else:
            out.append(draft)
        return []

    def _go_on(self, draft: Draft, out: list[Draft]) -> list[Draft]:
        first = self._waiting[0]
        together = first.data["delta"] + draft.data["delta"]
        clean = together
        for form in self._forms:
            clean = clean.replace(form, REDACTED.decode())
        if clean == together and not self._partial(together, longer_than=len(draft.data["delta"])):
            self._waiting.append(draft)
            return self._let_go(out)
        # Still open, or a secret indeed: one delta now. Its frames hold parts of the secret and are not kept.
        merged = first._replace(data={**first.data, "delta": clean}, raw=None)
        others, self._waiting = self._waiting[1:], []
        return [merged, *others]

    def _let_go(self, out: list[Draft]) -> list[Draft]:
        """The first that waits is innocent: it goes out as it came, and the others are looked at."""
        out.append(self._waiting[0])
        others, self._waiting = self._waiting[1:], []
        return others

    def _partial(self, text: str, *, longer_than: int = 0) -> int:
        """The length of the longest end of ``text`` that a secret begins with, if it is longer than that."""
        return max((_overlap(text, form, longer_than) for form in self._forms), default=0)


def _overlap(text: str, form: str, longer_than: int) -> int:
    start = max(0, len(text) - len(form) + 1)
    while (start := text.find(form[0], start)) >= 0 and len(text) - start > longer_than:
        if form.startswith(text[start:]):
            return len(text) - start
        start += 1
    return 0


def _item_of(draft: Draft) -> str | None:
    item = draft.data.get("item")
    item_id = item.get("item_id") if isinstance(item, dict) else draft.data.get("item_id")
    return item_id if isinstance(item_id, str) else None
