"""Identifiers: a kind prefix and 12 random base32 characters, so that a short unique prefix is enough to name one."""

from __future__ import annotations

import os
import re

from agentctl.errors import UsageError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32: no i, l, o, u
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def new_id(kind: str) -> str:
    """``new_id("ses")`` → ``"ses_4k2m9x0qw7ab"``: 60 random bits."""
    number = int.from_bytes(os.urandom(8), "big")  # importing secrets would cost every command 5 ms
    return f"{kind}_" + "".join(_ALPHABET[number >> shift & 31] for shift in range(0, 60, 5))


def new_token() -> str:
    """A supervisor's token: 256 random bits behind a ``~``. What an agent says waits while its end may be the beginning
    of a secret (``supervisor/held_back.py``), and hardly any text ends so."""
    return "~" + os.urandom(32).hex()


def is_name(text: str) -> bool:
    """Whether ``text`` may name a session, volume, workspace or agent: ``[a-z0-9][a-z0-9._-]{0,63}``."""
    return NAME_PATTERN.fullmatch(text) is not None


def require_name(text: str, what: str) -> None:
    """Raise ``UsageError`` when ``text`` may not name ``what`` ("a volume")."""
    if not is_name(text):
        hint = "Use a-z, 0-9, '.', '_' and '-', at most 64 characters, the first a letter or a digit."
        raise UsageError(f"{text!r} cannot name {what}.", hint=hint)
