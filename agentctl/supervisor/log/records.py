"""How an event becomes the bytes of its record, and how a record stays one when a secret is cut out of it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from json.encoder import encode_basestring as _quoted
from typing import Any, NamedTuple

from agentctl.events import Draft
from agentctl.supervisor.log.pages import HEAD
from agentctl.supervisor.redaction import REDACTED, Redact

_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_TEXT = "item.delta"
_TEXT_HEAD = f'"agent","synthetic":false,"type":"{_TEXT}","data":'


class Heading(NamedTuple):
    """What all events of one append share."""

    session_id: str
    native_session_id: str | None
    turn_id: str | None

    def to_json(self, now: float) -> bytes:
        """The members between ``event_id`` and ``source``, with a comma at both ends."""
        values = (rfc3339(now).encode(), *map(dump, self))
        return b',"time":"%b","session_id":%b,"native_session_id":%b,"turn_id":%b,"source":' % values


def rfc3339(now: float) -> str:
    """``2026-11-21T09:00:00.123Z``."""
    whole, milliseconds = divmod(int(now * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z"


def dump(value: Any) -> bytes:
    """Compact JSON that every reader can parse: null for NaN and Infinity, and lone surrogates only as escapes."""
    try:
        return _compact(value).encode()
    except UnicodeEncodeError:
        return _ascii(_finite(value)).encode()
    except ValueError:
        return dump(_finite(value))


def without_surrogates(value: Any) -> Any:
    """JSON with every lone surrogate replaced by U+FFFD, for writers of UTF-8: an agent can say one by an escape."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="surrogatepass").decode(errors="replace")
    if isinstance(value, dict):
        return {without_surrogates(k): without_surrogates(v) for k, v in value.items()}
    return [without_surrogates(item) for item in value] if isinstance(value, list | tuple) else value


def encode(first: int, drafts: Sequence[Draft], heading: Heading, redact: Redact | None) -> bytes:
    """The records of ``drafts``, numbered from ``first``, each with its newline."""
    shared = heading.to_json(time.time())
    text_head = shared.decode() + _TEXT_HEAD
    lines = [_text_line(n, draft, text_head) or _line(n, draft, shared) for n, draft in enumerate(drafts, first)]
    frames = _frames(drafts)
    records = _joined(lines, frames)
    if redact is None or redact(records) == records:  # one look at all, for most have nothing to be cut out
        return records
    lines = [redacted(line, redact) for line in lines]
    return _joined(lines, [frame if frame is None else redacted(frame, redact) for frame in frames])


def _line(number: int, draft: Draft, shared: bytes) -> bytes:
    head = f'"{draft.source}","synthetic":{"true" if draft.synthetic else "false"},"type":"{draft.type}","data":'
    return b'{"sequence":%d,"event_id":"evt_%d"%b%b%b}' % (number, number, shared, head.encode(), dump(draft.data))


def _text_line(number: int, draft: Draft, head: str) -> bytes | None:
    """The same for a piece of the agent's text, as most events are; None where there is more to it."""
    kind, data, source, synthetic, _ = draft
    if kind != _TEXT or synthetic or source != "agent" or not 2 <= len(data) <= 3:
        return None
    try:
        said = f'"item_id":{_quoted(data["item_id"])},"delta":{_quoted(data["delta"])}'
        if len(data) == 3:
            said = f'{said},"native_item_id":{_quoted(data["native_item_id"])}'
        return f'{{"sequence":{number},"event_id":"evt_{number}"{head}{{{said}}}}}'.encode()
    except (KeyError, TypeError, UnicodeEncodeError):  # also a lone surrogate
        return None


def _frames(drafts: Sequence[Draft]) -> list[bytes | None]:
    """The raw frames, without the tabs and newlines that tell where a record's parts end."""
    frames = [draft.raw for draft in drafts]
    together = b"".join(filter(None, frames))
    if b"\t" in together or b"\n" in together:
        return [_on_one_line(raw) if raw and (b"\t" in raw or b"\n" in raw) else raw for raw in frames]
    return frames


def _joined(lines: list[bytes], frames: list[bytes | None]) -> bytes:
    parts: list[bytes] = []
    for line, frame in zip(lines, frames, strict=True):
        parts += (line, b"\n") if frame is None else (line, b"\t", frame, b"\n")
    return b"".join(parts)


def _on_one_line(raw: bytes) -> bytes:
    """The same JSON without tabs and newlines; what is no JSON becomes a JSON string."""
    try:
        value = json.loads(raw)
    except ValueError:
        value = raw.decode(errors="replace")
    return dump(value)


def redacted(data: bytes, redact: Redact) -> bytes:
    """``data`` without secrets, and still the JSON that it was: a record keeps its number, a number's place a value."""
    clean = redact(data)
    if clean == data or not _is_json(data):
        return clean.replace(b"\t", b" ").replace(b"\n", b" ")
    if _is_json(clean) and clean[:24] == data[:24]:
        return clean
    value = json.loads(data)
    kept = {"sequence": value.pop("sequence")} if data.startswith(HEAD) else {}
    redone = _redacted_value(value, redact)
    return dump({**kept, **redone} if kept else redone)


def _redacted_value(value: Any, redact: Redact) -> Any:
    if isinstance(value, dict):
        return {_redacted_value(k, redact): _redacted_value(v, redact) for k, v in value.items()}
    if isinstance(value, list):
        return [_redacted_value(item, redact) for item in value]
    written = dump(value)
    clean = redact(written)
    if clean == written:
        return value
    return json.loads(clean) if _is_json(clean) else REDACTED.decode()


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
