"""What a backend has that no session may want any more: found by origin, looked at once more, removed.

Whether something is wanted is not the provider's to say: the store, the supervisor and the age decide
(``ops/orphans.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

from agentctl.frozen import frozen
from agentctl.model import Volume

Kind = Literal["sandbox", "helper", "network", "processes", "socket", "volume"]
NEWEST = (
    "import os,sys;top=sys.argv[1];"
    "inside=(os.path.join(d,n) for d,_,ns in os.walk(top) for n in (os.curdir,*ns));"
    "print(max(os.lstat(f).st_mtime for f in (top,*inside)))"
)
"""A Python program that prints when a log's directory, or anything in it, was last written to; a supervisor has the
directory bear the time of its last activity. What it may not read does not count. For a directory that is not there it
fails. It has no quotes, as it goes through shells."""

Status = Literal["running", "paused", "stopped", "failed"]


@frozen
class Leftover:
    """``id`` is the backend's own name for it; with ``handle`` the provider finds it again; that of a sandbox works in
    every call of ``Provider``, and a volume's has all that its ``Volume`` has. ``labels`` are those of ``SandboxSpec``,
    or of ``volume_create``, as far as it bears any. ``created_at`` None: the backend does not say. ``active_at`` is the
    last sign of life that the backend knows of; of a volume, when it was last written to or mounted. ``own``: made by
    this very state directory, whose store knows all it wants. A ``failed`` one never came up, or came down with
    processes left.
    """

    kind: Kind
    id: str
    handle: dict[str, Any]
    labels: dict[str, str]
    sandbox_id: str | None
    created_at: float | None
    status: Status
    own: bool
    active_at: float | None = None


def of_volume(volume: Volume, labels: dict[str, str] | None = None) -> Leftover:
    """A volume of this state directory's, as one that nobody may want."""
    return Leftover(
        kind="volume",
        id=volume.name,
        handle=volume.handle,
        labels=labels or {},
        sandbox_id=None,
        created_at=volume.created_at or None,
        status="stopped",
        own=True,
    )


class Sweeping(Protocol):
    """The part of ``Provider`` that ``cleanup-orphans`` needs."""

    def leftovers(self, origin: str) -> AsyncIterator[Leftover]:
        """Everything that the backend has of ``origin``, wanted or not, whichever state directory made it; and what
        this one made and bears no origin."""

    async def leftover_now(self, leftover: Leftover) -> Leftover | None:
        """The same thing as it is at this moment; None when it is gone."""

    async def size_bytes(self, leftover: Leftover) -> int | None:
        """What it takes on the disk beside what others use, too; None where the backend does not tell."""

    async def remove_leftover(self, leftover: Leftover) -> None:
        """End and delete it with all that belongs to it, but never the volume of a sandbox. Removing a missing one
        succeeds."""
