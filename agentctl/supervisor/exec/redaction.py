"""Secrets in a stream of bytes that comes in pieces of any size."""

from __future__ import annotations

from collections.abc import Iterable

from agentctl.supervisor.redaction import REDACTED, forms_of


class RedactedBytes:
    """``feed`` returns what may be shown now, with each secret replaced; an end that may be the beginning of a secret
    waits for what comes next, or for ``flush``."""

    def __init__(self, secrets: Iterable[str] = (), *, forms: Iterable[bytes] = ()) -> None:
        self._forms = sorted({*forms_of(secrets), *forms}, key=len, reverse=True)
        self._first = {form[0] for form in self._forms}
        self._longest = max(map(len, self._forms), default=1) - 1
        self._waiting = b""

    @property
    def waits(self) -> bool:
        return bool(self._waiting)

    def feed(self, data: bytes) -> bytes:
        if not self._forms:
            return data
        data = self._waiting + data
        for form in self._forms:
            if form in data:
                data = data.replace(form, REDACTED)
        kept = len(data) - self._partial(data)
        self._waiting = data[kept:]
        return data[:kept]

    def flush(self) -> bytes:
        data, self._waiting = self._waiting, b""
        return data

    def _partial(self, data: bytes) -> int:
        """The length of the longest end of ``data`` that a secret begins with."""
        start = max(0, len(data) - self._longest)
        for at in range(start, len(data)):
            if data[at] in self._first and any(form.startswith(data[at:]) for form in self._forms):
                return len(data) - at
        return 0
