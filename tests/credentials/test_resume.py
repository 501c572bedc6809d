"""Credentials of a session that comes back: the user's as they are then, from the environment and from files."""

from __future__ import annotations

import json
import os
import stat
import sys

import pytest

from agentctl.model import Session, SessionSpec
from agentctl.ops import launch
from agentctl.ops.app import App
from agentctl.supervisor.fresh_files import write_fresh_files
from tests.credentials.support import put

LOGIN = ".codex/auth.json"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "sandbox").mkdir()
    return tmp_path / "sandbox"


def there(home, name=LOGIN):
    return (home / name).read_text()


def test_a_login_is_put_there_for_its_owner_only(home):
    write_fresh_files(home, {LOGIN: "first"})
    assert there(home) == "first"
    assert stat.S_IMODE((home / LOGIN).stat().st_mode) == 0o600
    assert not [path for path in home.rglob("*") if path.is_file() and path.name.startswith(".auth")]


def test_a_login_that_the_user_renewed_replaces_the_one_of_the_last_start(home):
    write_fresh_files(home, {LOGIN: "first"})
    write_fresh_files(home, {LOGIN: "second"})
    assert there(home) == "second"


def test_a_login_that_the_agent_renewed_stays_while_the_users_is_the_same(home):
    write_fresh_files(home, {LOGIN: "first"})
    (home / LOGIN).write_text("renewed by the agent")
    write_fresh_files(home, {LOGIN: "first"})
    assert there(home) == "renewed by the agent"
    write_fresh_files(home, {LOGIN: "second"})
    assert there(home) == "second"


def test_a_file_of_the_agents_own_is_never_replaced(home):
    put(home, LOGIN, "logged in inside")
    write_fresh_files(home, {LOGIN: "first"})
    assert there(home) == "logged in inside"


def test_what_was_deleted_comes_back(home):
    write_fresh_files(home, {LOGIN: "first"})
    (home / LOGIN).unlink()
    write_fresh_files(home, {LOGIN: "first"})
    assert there(home) == "first"


def test_a_damaged_record_harms_nothing(home):
    write_fresh_files(home, {LOGIN: "first"})
    for text in ("{", "[]", ""):
        (home / ".local/state/agentctl/placed.json").write_text(text)
        write_fresh_files(home, {LOGIN: "second"})
        assert there(home) == "first"


def test_the_record_does_not_hold_the_login(home):
    write_fresh_files(home, {LOGIN: "a-secret-login"})
    record = json.loads(there(home, ".local/state/agentctl/placed.json"))
    assert [*record] == [LOGIN]
    assert "a-secret-login" not in str(record)


@pytest.fixture
def agent_on_path(tmp_path):
    """Amp is looked up on PATH, so that a launch of it needs no install."""
    program = tmp_path / "bin/amp-acp"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)
    return str(program.parent)


@pytest.mark.slow
async def test_every_bring_up_looks_the_credentials_up(tmp_path, monkeypatch, agent_on_path):
    user = tmp_path / "user"
    monkeypatch.setenv("PATH", f"{agent_on_path}:{os.environ['PATH']}")
    spec = SessionSpec(agent="amp", permissions="allow", cwd=str(tmp_path))
    session = Session(id="ses_x", name="x", spec=spec, status="new", created_at=0, updated_at=0)
    put(user, ".local/share/amp/secrets.json", {"apiKey@https://ampcode.com/": "sgamp_from_file"})
    for environ, key in (
        ({}, "sgamp_from_file"),
        ({"AMP_API_KEY": "sgamp_first"}, "sgamp_first"),
        ({"AMP_API_KEY": "sgamp_second"}, "sgamp_second"),
    ):
        with App(App.open().paths, {**os.environ, **environ, "HOME": str(user)}) as app:
            prepared = await launch.prepare(app, session)
        assert prepared.env["AMP_API_KEY"] == key
        assert key in prepared.secrets
        assert key not in str(prepared.recipe)
