"""Daytona's states of a sandbox as ours."""

from __future__ import annotations

from typing import Any, Literal

Status = Literal["running", "paused", "stopped", "missing"]

STATES: dict[str, tuple[Status, str]] = {
    "started": ("running", ""),
    "resizing": ("running", "its size is being changed"),
    "snapshotting": ("running", "a snapshot of it is being made"),
    "forking": ("running", "a copy of it is being made"),
    "unknown": ("running", "Daytona does not know its state"),
    "creating": ("stopped", "it is being made"),
    "pending_build": ("stopped", "its image waits to be built"),
    "building_snapshot": ("stopped", "its image is being built"),
    "pulling_snapshot": ("stopped", "its image is being fetched"),
    "restoring": ("stopped", "it is being brought back from the archive"),
    "starting": ("stopped", "it is starting"),
    "resuming": ("stopped", "it is being resumed"),
    "stopping": ("stopped", "it is stopping"),
    "stopped": ("stopped", "Daytona has stopped it"),
    "pausing": ("stopped", "it is being paused"),
    "paused": ("paused", "it was paused"),
    "archiving": ("stopped", "it is on its way into the archive"),
    "archived": ("stopped", "it lies in the archive"),
    "error": ("stopped", "it failed"),
    "build_failed": ("stopped", "its image could not be built"),
    "destroying": ("missing", ""),
    "destroyed": ("missing", ""),
}
FAILED = ("error", "build_failed")
"""States in which it never came up, or cannot any more."""


def status_of(sandbox: Any) -> tuple[Status, str]:
    """Of an ``AsyncSandbox``, and in words what that means. A state that is newer than this list is no sign of an
    end."""
    state = str(getattr(sandbox.state, "value", sandbox.state))
    status, detail = STATES.get(state, ("running", f"Daytona says {state}"))
    return status, f"{detail}: {sandbox.error_reason}" if detail and sandbox.error_reason else detail
