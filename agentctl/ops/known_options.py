"""What agents told of their models, modes and other options when they ran last, kept for completion, which must not
start one to ask: ``<state>/known/<agent>.json`` is the agent's list of ACP config options."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentctl.events import Event
    from agentctl.model import Session
    from agentctl.paths import StatePaths

Json = dict[str, Any]
_LARGEST = 256 * 1024


def keep(paths: StatePaths, session: Session, options: list[Json]) -> None:
    """Remember them, unless they are known so. Where that cannot be written, completion knows less."""
    if session.spec.agent_command is not None:
        return
    data = json.dumps(options, ensure_ascii=False).encode("utf-8", "backslashreplace")
    path = paths.known / f"{session.spec.agent}.json"
    with suppress(OSError):
        if len(data) > _LARGEST or (path.exists() and path.read_bytes() == data):
            return
        path.parent.mkdir(mode=0o700, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_bytes(data)
        os.replace(fresh, path)


def take(paths: StatePaths, session: Session, batch: Sequence[Event]) -> None:
    """Remember them from the first events of a session."""
    for event in batch:
        if event.type == "session.config_changed" and event.data.get("options"):
            keep(paths, session, event.data["options"])


def known(paths: StatePaths, agent: str) -> list[Json]:
    """The config options of a built-in agent; ``[]`` when it never ran here."""
    try:
        options = json.loads((paths.known / f"{agent}.json").read_bytes())
    except (OSError, ValueError):
        return []
    return [o for o in options if isinstance(o, dict) and isinstance(o.get("id"), str)]
