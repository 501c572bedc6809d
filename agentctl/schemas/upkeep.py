"""What the commands about agentctl itself answer: settings, doctor, help, the sweep of orphans."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from agentctl.ops.doctor import Finding


class Setting(TypedDict):
    """A setting as it is here, and where it comes from."""

    key: str
    value: Any
    origin: str


class ChangedSetting(Setting):
    path: str


class ConfigPaths(TypedDict):
    user: str
    project: str | None
    trusted: bool | None


class Trust(TypedDict):
    path: str
    trusted: bool


class Diagnosis(TypedDict):
    healthy: bool
    findings: list[Finding]


class HelpText(TypedDict):
    topic: str | None
    text: str


class SweepCounts(TypedDict):
    would_delete: int
    deleted: int
    kept: int
    skipped: int
    failed: int


class Orphan(TypedDict):
    """Something that a sandbox left behind, and what became of it."""

    provider: str
    kind: str
    id: str
    action: Literal["would_delete", "deleted", "kept", "skipped", "failed"]
    reason: str
    session_id: str | None
    sandbox_id: str | None
    owner: str | None
    status: str
    created_at: float | None
    active_at: float | None
    age_s: float | None
    size_bytes: int | None


class Swept(TypedDict):
    origin: str
    dry_run: bool
    older_than_s: float
    counts: SweepCounts
    freed_bytes: int
    orphans: list[Orphan]


COMMANDS: dict[str, Any] = {
    "config-show": list[Setting],
    "config-get": Setting,
    "config-set": ChangedSetting,
    "config-unset": ChangedSetting,
    "config-path": ConfigPaths,
    "config-trust": Trust,
    "config-untrust": Trust,
    "doctor": Diagnosis,
    "help": HelpText,
    "cleanup-orphans": Swept,
    "schema": list[str] | dict[str, Any],
}
