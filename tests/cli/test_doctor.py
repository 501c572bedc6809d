"""``agentctl doctor``: each finding with its fix."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from agentctl.agents.installed import Installed, write_manifest
from agentctl.ops.app import App
from agentctl.ops.doctor import Look
from agentctl.ops.doctor_checks import CHECKS
from agentctl.store.sqlite import SqliteStore
from tests.cli.running import agentctl


@pytest.fixture
def state() -> Path:
    return Path(os.environ["AGENTCTL_STATE_DIR"])


def findings(*args: str, cwd: Path | None = None, **env: str) -> dict[str, list[dict]]:
    done = agentctl("doctor", "--json", *args, env=env, cwd=cwd)
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
    mended, _ = findings()["state directory"]
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
    assert found["python"][0]["status"] == found["unix_local"][0]["status"] == "ok"
    for check in ("clock", "leftovers"):
        assert [(one["status"], one["detail"]) for one in found[check]] == [("info", "not looked at without the store")]


def test_a_damaged_database_is_found_before_anything_stumbles_over_it(state):
    agentctl("sessions", "create", "kept", "--agent", "mock", "--no-provision")
    with (state / "agentctl.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    [store] = findings()["store"]
    assert store["status"] == "error"
    assert "is damaged" in store["detail"]
    assert "Move" in store["fix"]


def test_a_state_directory_that_cannot_be_is_told_once(state):
    found = findings(AGENTCTL_STATE_DIR="/dev/null/state")
    errors = [one for several in found.values() for one in several if one["status"] == "error"]
    assert [one["check"] for one in errors] == ["state directory"]
    assert "AGENTCTL_STATE_DIR" in errors[0]["fix"]


@pytest.mark.slow
def test_settings_that_do_not_count_are_told_and_broken_ones_are_a_fault(state, tmp_path):
    (tmp_path / "agentctl.toml").write_text('permissions = "allow"\n')
    _, ignored = findings(cwd=tmp_path)["config"]
    assert (ignored["status"], ignored["fix"]) == ("warning", "agentctl config trust")
    (tmp_path / "agentctl.toml").write_text('agnet = "mock"\n')
    [broken] = findings(cwd=tmp_path)["config"]
    assert broken["status"] == "error"
    assert "Did you mean 'agent'?" in broken["fix"]


@pytest.mark.slow
def test_an_old_agent_without_a_credential_and_a_machine_without_npm_are_warnings_with_their_fixes(state, tmp_path):
    place = state / "agents" / "claude" / "0.1.0"
    place.mkdir(parents=True)
    write_manifest(place, Installed(name="claude", version="0.1.0", path=place, installed_at=1.0))
    found = findings(HOME=str(tmp_path), PATH=str(tmp_path))
    warned = {check: [(one["detail"], one["fix"]) for one in found[check]] for check in ("agent", "credentials", "npm")}
    assert found["node"][0]["status"] == "info"
    assert warned["npm"][0][1].startswith("Agents are installed with npm")
    [(detail, fix)] = warned["agent"]
    assert ("claude 0.1.0 is installed" in detail, fix) == (True, "agentctl agents install claude")
    detail, fix = warned["credentials"][0]
    assert detail == "missing for claude, which is installed"
    assert "ANTHROPIC_API_KEY" in fix


@pytest.mark.slow
def test_a_stale_socket_is_a_warning_and_mended_when_it_is_asked_for(state, tmp_path):
    place = tmp_path / "agentctl-stale" / "sock"
    place.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(place))
    os.utime(place.parent, (1, 1))
    [told] = findings(TMPDIR=str(tmp_path))["leftovers"]
    assert (told["status"], told["fixable"], place.exists()) == ("warning", True, True)
    assert "cleanup-orphans" in told["fix"]
    [mended] = findings("--fix", TMPDIR=str(tmp_path))["leftovers"]
    assert (mended["status"], mended["fixed"], place.exists()) == ("ok", True, False)


@pytest.mark.slow
def test_a_database_that_answers_is_told_and_its_clock_compared(state, postgres):
    found = findings(AGENTCTL_DATABASE_URL=postgres.database())
    assert found["store"][0]["detail"].startswith("Postgres: 0 sessions")
    assert found["clock"][0]["status"] == "ok"


async def test_a_machine_whose_clock_is_wrong_is_told(state):
    class Behind(SqliteStore):
        def now(self) -> float:
            return time.time() - 60

    with App.open() as app, Behind(app.paths.database) as store:
        app.__dict__["store"] = store
        [clock] = [finding async for finding in CHECKS["clock"](Look(app))]
    assert clock.detail == "this machine is 60 s ahead of the database's server"
    assert "timedatectl" in clock.fix


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
    assert ("expired 19" in expired["detail"], expired["fix"]) == (True, "Log in again: claude")
    assert "geheim" not in str(found)
