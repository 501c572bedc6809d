"""What a session may be called on the command line: a name, an id, a unique prefix of an id, ``@last``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentctl.errors import SandboxNotFound, SessionNotFound, UsageError

LAST = "@last"
_PREFIX = "ses_"
_MIN_PREFIX = 3


def id_prefix(ref: str) -> str | None:
    """The id prefix that ``ref`` may stand for, or None when it is too short to be one."""
    random_part = ref.removeprefix(_PREFIX)
    return _PREFIX + random_part if len(random_part) >= _MIN_PREFIX else None


def missing(ref: str, names: Iterable[str]) -> SessionNotFound:
    """The error for a reference that nothing answers to, with the nearest of ``names`` as its hint."""
    if ref == LAST:
        return SessionNotFound("There is no session yet.", hint="`agentctl sessions create` makes one.")
    from difflib import get_close_matches

    near = get_close_matches(ref, list(names), n=3)
    meant = f"Did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
    return SessionNotFound(
        f"There is no session {ref!r}.",
        hint=f"{meant}`agentctl sessions list` shows all sessions.",
        details={"session": ref, "near": near},
    )


def missing_sandbox(ref: str, names: Iterable[str]) -> SandboxNotFound:
    """As ``missing``, for sandboxes of their own."""
    from difflib import get_close_matches

    near = get_close_matches(ref, list(names), n=3)
    meant = f"Did you mean {' or '.join(repr(name) for name in near)}? " if near else ""
    return SandboxNotFound(
        f"There is no sandbox {ref!r}.",
        hint=f"{meant}`agentctl sandboxes list` shows all sandboxes.",
        details={"sandbox": ref, "near": near},
    )


def ambiguous(ref: str, candidates: Sequence[tuple[str, str]], what: str = "sessions") -> UsageError:
    """The error for a prefix that several sessions share; ``candidates`` are (id, name)."""
    shown = ", ".join(f"{session_id} ({name})" for session_id, name in candidates)
    return UsageError(
        f"{ref!r} could be any of several {what}: {shown}.",
        hint="Give the name, or more characters of the id.",
        details={"candidates": [{"id": session_id, "name": name} for session_id, name in candidates]},
    )
