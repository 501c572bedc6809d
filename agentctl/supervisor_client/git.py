"""The repositories of a sandbox: ``/v1/git``."""

from __future__ import annotations

from typing import Any

from agentctl.supervisor_client.transport import Transport

Json = dict[str, Any]
_MARGIN_S = 60.0


async def clone(door: Transport, clones: list[Json], *, timeout_s: float) -> list[Json]:
    """Clone all of them or none; each is a ``Clone`` of ``wire.py``. Raise as ``Repositories.clone`` says."""
    body = {"clones": [{**one, "timeoutS": timeout_s} for one in clones]}
    answer = await door.request("POST", "/v1/git/clone", body, timeout_s=timeout_s + _MARGIN_S)
    made: list[Json] = answer["repositories"]
    return made


async def take_back(door: Transport, paths: list[str]) -> None:
    """Remove what was cloned to these paths by this supervisor."""
    await door.request("DELETE", "/v1/git/clone", {"paths": paths})
