"""Labels as Modal's tags, which are at most 63 of ``[A-Za-z0-9._-]`` each, names and values alike."""

from __future__ import annotations

import re
import time

from agentctl.errors import UsageError
from agentctl.providers.base import SandboxSpec

INSTALLATION = "agentctl.installation"
SANDBOX = "agentctl.sandbox"
ATTEMPT = "agentctl.attempt"
CREATED_AT = "agentctl.created-at"
EXPIRES_AT = "agentctl.expires-at"
USERS = "agentctl.label."
LONGEST = 63

_PLAIN = re.compile(rb"[A-Za-z0-9_-]")
_ESCAPE = re.compile(r"\.([0-9a-f]{2})")
_EMPTY = "."


def tags_of(spec: SandboxSpec, installation: str, attempt: str, expires_at: float) -> dict[str, str]:
    """Raise ``UsageError`` for a label that is too long to be a tag."""
    return {**own_tags(installation, attempt, expires_at), SANDBOX: spec.sandbox_id, **label_tags(spec.labels)}


def own_tags(installation: str, attempt: str, expires_at: float) -> dict[str, str]:
    """``attempt`` tells what one call of create made from all else."""
    return {
        INSTALLATION: installation,
        ATTEMPT: attempt,
        CREATED_AT: str(int(time.time())),
        EXPIRES_AT: str(int(expires_at)),
    }


def label_tags(labels: dict[str, str]) -> dict[str, str]:
    tags = {f"{USERS}{encode(name)}": encode(value) for name, value in labels.items()}
    for (name, value), (tag, tag_value) in zip(labels.items(), tags.items(), strict=True):
        if max(len(tag), len(tag_value)) > LONGEST:
            raise UsageError(
                f"The label {name}={value} is too long for a tag of Modal's.",
                hint=f"It takes {LONGEST - len(USERS)} characters for a name and {LONGEST} for a value; all but"
                " letters, digits, '_' and '-' count three.",
            )
    return tags


def users_labels(tags: dict[str, str]) -> dict[str, str]:
    return {decode(name.removeprefix(USERS)): decode(value) for name, value in tags.items() if name.startswith(USERS)}


def time_of(tags: dict[str, str], name: str) -> float | None:
    try:
        return float(tags[name])
    except (KeyError, ValueError):
        return None


def encode(text: str) -> str:
    """All but letters, digits, ``_`` and ``-`` as a dot and two hexadecimal digits; nothing as a single dot."""
    if not text:
        return _EMPTY
    raw = text.encode(errors="surrogateescape")
    return "".join(chr(byte) if _PLAIN.fullmatch(bytes([byte])) else f".{byte:02x}" for byte in raw)


def decode(tag: str) -> str:
    if tag == _EMPTY:
        return ""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), tag).encode("latin-1").decode(errors="surrogateescape")
