"""``agentctl doctor``: each finding with its fix."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from tests.cli.running import agentctl


@pytest.fixture
def state() -> Path:
    return Path(os.environ["AGENTCTL_STATE_DIR"])


def findings(*args: str, **env: str) -> dict[str, list[dict]]:
    done = agentctl("doctor", "--json", *args, env=env)
    found: dict[str, list[dict]] = {}
    for finding in done.data["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    assert done.code == (0 if done.data["healthy"] else 1), done
    return found


def test_a_fresh_machine_is_healthy_and_told_what_could_be_set_up(state):
    done = agentctl("doctor", env={"DOCKER_HOST": "unix:///nonexistent/sock"})
    assert done.code == 0, done
    assert "✓ python: " in done.out
    assert "· docker: " in done.out
    assert "agentctl agents install claude" in done.out
    quiet = agentctl("doctor", "-q", env={"DOCKER_HOST": "unix:///nonexistent/sock"})
    assert quiet.out == "", "what is in order goes unsaid"


def test_what_is_used_and_broken_is_a_fault(state):
    broken = {"DOCKER_HOST": "unix:///nonexistent/sock", "AGENTCTL_PROVIDER": "docker"}
    [docker] = findings(**broken)["docker"]
    assert docker["status"] == "error"
    assert "DOCKER_HOST" in docker["fix"]


def test_a_state_directory_that_others_can_read_is_mended(state):
    state.chmod(0o755)
    [mended] = findings()["state directory"]
    assert mended["fixed"]
    assert state.stat().st_mode & 0o777 == 0o700


def test_a_clock_that_was_ahead_is_noticed(state):
    agentctl("sessions", "create", "early", "--agent", "mock", "--no-provision")
    with sqlite3.connect(state / "agentctl.db") as database:
        database.execute("update sessions set updated_at = ?", (time.time() + 7200,))
    database.close()
    [clock] = findings()["clock"]
    assert clock["status"] == "warning"
    assert "early" in clock["detail"]


def test_a_state_directory_of_a_later_version_is_one_finding_among_others(state):
    agentctl("sessions", "list")
    with sqlite3.connect(state / "agentctl.db") as database:
        database.execute("pragma user_version = 999")
    database.close()
    found = findings()
    assert found["store"][0]["status"] == "error"
    assert "newer" in found["store"][0]["detail"]
    assert found["python"][0]["status"] == "ok"


def test_a_database_that_does_not_answer_is_told_without_its_password(state):
    url = "postgresql://me:geheim@127.0.0.1:1/nix"
    done = agentctl("doctor", env={"AGENTCTL_DATABASE_URL": url})
    assert done.code == 1
    assert "✗ store: " in done.out
    assert "geheim" not in done.out + done.err


def test_an_expired_login_is_a_warning_with_its_fix(state, tmp_path):
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / ".credentials.json").write_text(
        '{"claudeAiOauth": {"accessToken": "sk-ant-oat01-geheim", "expiresAt": 1000}}'
    )
    found = findings(HOME=str(tmp_path))["credentials"]
    [expired] = [finding for finding in found if finding["status"] == "warning"]
    assert "anthropic" in expired["detail"]
    assert "geheim" not in str(found)
