"""What ``volumes``, ``workspaces``, ``cp`` and ``sessions files`` answer."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from agentctl.schemas.sessions import Encoding


class User(TypedDict):
    """Who has its HOME there."""

    id: str
    name: str
    workspace: str | None


class Volume(TypedDict):
    """A volume; the machine is told only of one that is elsewhere, the path only of one on this host."""

    name: str
    provider: str
    status: Literal["ready", "missing", "elsewhere", "unknown"]
    machine: str | None
    path: str | None
    created_at: float
    sessions: list[User]
    sandboxes: list[User]


class VolumeDetails(Volume):
    workspaces: list[str] | None


class Workspace(TypedDict):
    """A workspace; the path begins at the volume's top."""

    name: str
    volume: str
    provider: str
    status: Literal["ready", "planned"]
    path: str
    sessions: list[User]
    sandboxes: list[User]


class Deleted(TypedDict):
    """What was deleted, and the sessions that lost their HOME by it."""

    deleted: list[str]
    sessions: list[str]


class Path(TypedDict):
    """A path; rawPath, percent-encoded, where it is no text."""

    path: str
    rawPath: NotRequired[str]


class FileFacts(Path):
    entryType: Literal["file", "directory"]
    size: int
    modified: str
    mode: str


class DirectoryEntry(FileFacts):
    name: str
    target: NotRequired[str]


class Content(TypedDict):
    path: str
    size: int
    encoding: Encoding
    content: str


class Copied(TypedDict):
    source: str
    target: str
    bytes: int


Moved = TypedDict("Moved", {"from": str, "to": str})


class Removed(TypedDict):
    removed: list[str]


class Edited(Path):
    replacements: int


_FILES = {
    "ls": list[DirectoryEntry],
    "cat": Content,
    "put": Copied,
    "pull": Copied,
    "mv": Moved,
    "rm": Removed,
    "mkdir": Path,
    "stat": FileFacts,
}

COMMANDS: dict[str, Any] = {
    "cp": Copied,
    **{f"sessions-files-{name}": data for name, data in _FILES.items()},
    "sessions-files-edit": Edited,
    "volumes-create": Volume,
    "volumes-list": list[Volume],
    "volumes-get": VolumeDetails,
    "volumes-delete": Deleted,
    **{f"volumes-{name}": data for name, data in _FILES.items()},
    "workspaces-create": Workspace,
    "workspaces-list": list[Workspace],
    "workspaces-get": Workspace,
    "workspaces-delete": Deleted,
}
