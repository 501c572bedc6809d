"""Where things are in a modal sandbox, and what it and its volumes are called."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from agentctl import ids
from agentctl.errors import SandboxError, UsageError
from agentctl.providers.base import Layout, sandbox_environment

Json = dict[str, Any]
HOME = "/home/agent"
TMP = "/tmp"  # noqa: S108 - the sandbox's own
PRIVATE = "/run/agentctl"
RUNTIME = f"{PRIVATE}/runtime"
LOG = f"{PRIVATE}/log"
KEPT = f"{PRIVATE}/kept"
"""What a session has on the volume for logs. Its log itself is on the sandbox's disk: a volume shows late what was
written, and a log is written before it is shown."""

WHOLE = "/volume"
"""Where a sandbox that only works on a volume has all of it."""

PORT = 8321
"""Of the supervisor; Modal gives it a name and a port of its own outside, with TLS."""

LAYOUT = Layout(python="python3", runtime=RUNTIME)

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LONGEST_NAME = 64
_LOGS = "log"


def installation_of(root: Path) -> str:
    """Tells what one state directory has at Modal from what others have there."""
    return hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:10]


def name_of(sandbox_id: str) -> str:
    """Its name at Modal, known before it is made: it is what a lost one is found by."""
    return f"agentctl-{sandbox_id}"


def sandbox_id_of(handle: Json) -> str:
    sandbox_id = handle["sandbox"]
    if not ids.is_name(sandbox_id):
        raise SandboxError(f"{sandbox_id!r} is not the id of a sandbox.")
    return str(sandbox_id)


def volume_names(installation: str, name: str) -> tuple[str, str]:
    """What a volume is at Modal: one for homes and workspaces, one for logs, since a sandbox cannot mount two places of
    the same one. Raise ``UsageError`` for a name that is too long for that."""
    homes, logs = f"agentctl-{installation}-{name}", f"agentctl-{installation}.{_LOGS}-{name}"
    if len(logs) > _LONGEST_NAME:
        spare = _LONGEST_NAME - len(logs) + len(name)
        raise UsageError(f"{name!r} is too long for a volume at Modal.", hint=f"It takes {spare} characters.")
    return homes, logs


def volume_of(installation: str, full_name: str) -> str | None:
    """The name of the volume whose homes are called that at Modal; None for what is no such thing."""
    name = full_name.removeprefix(f"agentctl-{installation}-")
    return name if name != full_name and ids.is_name(name) else None


def environment(sandbox_id: str, given: dict[str, str]) -> dict[str, str]:
    """What agents get besides what their image sets (``loader.py`` adds it): the session's, then what makes the sandbox
    a sandbox."""
    own = {
        "IS_SANDBOX": "1",  # lets Claude Code work without asking, though it is root
        **sandbox_environment(sandbox_id, HOME, TMP),
    }
    return {"TERM": "dumb", **given, **own}
