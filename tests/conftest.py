"""What every test gets: a clean environment and a state directory of its own."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No AGENTCTL_* and no credential of the developer reaches a test; the state directory is fresh."""
    for name in list(os.environ):
        if name.startswith("AGENTCTL_") or name.endswith(("_API_KEY", "_AUTH_TOKEN", "_OAUTH_TOKEN")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AGENTCTL_STATE_DIR", str(tmp_path / "state"))
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
