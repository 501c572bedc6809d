"""Keeps known secrets out of what is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

Redact = Callable[[bytes], bytes]

REDACTED = b"[redacted]"
MIN_SECRET_CHARS = 8


def make_redactor(secrets: Iterable[str]) -> Redact | None:
    """A function that replaces each secret of 8 or more characters, in its raw and its JSON-escaped forms, by
    ``[redacted]``; None when there is no such secret.

    It knows bytes, not JSON: a secret of digits may stand where a number was, so the log checks what comes out.
    """
    forms = forms_of(secrets)
    if not forms:
        return None
    # The longest first: a secret that begins with another one must not leave its own end behind.
    ordered = sorted(forms, key=len, reverse=True)

    def redact(data: bytes) -> bytes:
        for form in ordered:
            if form in data:
                data = data.replace(form, REDACTED)
        return data

    return redact


def forms_of(secrets: Iterable[str]) -> set[bytes]:
    """What has to be found to keep these secrets out; those of fewer than 8 characters are not looked for."""
    return {form for secret in secrets if len(secret) >= MIN_SECRET_CHARS for form in _forms(secret)}


def _forms(secret: str) -> set[bytes]:
    """As it is, and as JSON writers escape it: with and without non-ASCII escapes, with and without ``\\/``."""
    texts = [secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]]
    texts += [text.replace("/", "\\/") for text in texts[1:]]
    return {text.encode("utf-8", "surrogatepass") for text in texts}
