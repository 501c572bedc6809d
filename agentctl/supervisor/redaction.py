"""Keeps known secrets out of what is written."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentctl.supervisor.exec.redaction import RedactedBytes

REDACTED = b"[redacted]"
MIN_SECRET_CHARS = 8
MIN_LINE_CHARS = 16
MAX_LINES = 100


class Redact:
    """Replaces what must not be shown by ``[redacted]``; ``stream`` does so in bytes that come in pieces.

    It knows bytes, not JSON: a secret of digits may stand where a number was, so the log checks what comes out.
    """

    def __init__(self, forms: Iterable[bytes]) -> None:
        # The longest first: a secret that begins with another one must not leave its own end behind.
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, data: bytes) -> bytes:
        for form in self._forms:
            if form in data:
                data = data.replace(form, REDACTED)
        return data

    def stream(self) -> RedactedBytes:
        """For one stream, from its beginning to its end."""
        from agentctl.supervisor.exec.redaction import RedactedBytes

        return RedactedBytes(forms=self._forms)


def make_redactor(secrets: Iterable[str]) -> Redact | None:
    """What takes out each secret of 8 or more characters, in all of its forms; None when there is no such secret."""
    forms = forms_of(secrets)
    return Redact(forms) if forms else None


def forms_of(secrets: Iterable[str]) -> set[bytes]:
    """What has to be found to keep these secrets out; those of fewer than 8 characters are not looked for.

    The longer lines of a secret of several lines, such as a private key, are secrets too: tools show it by lines.
    """
    return {form for secret in secrets if len(secret) >= MIN_SECRET_CHARS for form in _forms_and_lines(secret)}


def _forms_and_lines(secret: str) -> set[bytes]:
    whole = secret.strip()
    parts = [whole] if len(whole) >= MIN_SECRET_CHARS else []
    lines = [line.strip() for line in secret.splitlines()]
    if len(lines) <= MAX_LINES:
        parts += [line for line in lines if len(line) >= MIN_LINE_CHARS]
    return _forms(secret).union(*map(_forms, parts))


def _forms(secret: str) -> set[bytes]:
    """As it is, and as JSON writers escape it: with and without non-ASCII escapes, with and without ``\\/``, once and,
    as in a text that is JSON itself, twice."""
    texts = [secret]
    for _ in range(2):
        texts += [json.dumps(text, ensure_ascii=ascii_)[1:-1] for text in texts for ascii_ in (True, False)]
    texts += [text.replace("/", "\\/") for text in texts[1:]]
    return {text.encode("utf-8", "surrogatepass") for text in texts}
