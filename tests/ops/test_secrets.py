"""Secrets on the host: where values come from, what is kept, and what an unforeseen error may say."""

from __future__ import annotations

import pytest

from agentctl import errors
from agentctl.cli import entry
from agentctl.model import SessionSpec
from agentctl.ops import launch, secrets, sessions
from agentctl.paths import StatePaths, default_state_dir

VALUE = "sesame-open-0123456789"


@pytest.fixture
async def session(app, tmp_path):
    (tmp_path / "file").write_text(VALUE + "\n")
    app.environ = {**app.environ, "FROM_ENV": VALUE + "-env"}
    app.given_secrets["GIVEN"] = VALUE + "-given"
    spec = SessionSpec(
        agent="mock",
        cwd=str(tmp_path),
        secrets=(
            {"name": "FROM_ENV", "from": "env"},
            {"name": "FROM_FILE", "from": "file", "path": str(tmp_path / "file")},
            {"name": "GIVEN", "from": "stored"},
        ),
    )
    created = await sessions.create(app, spec, name="work", provision=False)
    app.given_secrets.clear()
    return created


async def test_every_kind_is_found_again(app, session):
    found = secrets.resolve(app, session.spec.secrets, session)
    assert found == {"FROM_ENV": VALUE + "-env", "FROM_FILE": VALUE, "GIVEN": VALUE + "-given"}


async def test_what_is_there_is_known_although_something_is_missing(app, session):
    app.environ = {}
    with pytest.raises(errors.CredentialsMissing, match="FROM_ENV"):
        launch.given_environment(app, session.spec, session)
    assert launch.known_environment(app, session.spec, session) == {"FROM_FILE": VALUE, "GIVEN": VALUE + "-given"}
    assert set(launch.known_values(app, session.spec, session)) == {VALUE, VALUE + "-given"}


async def test_a_value_that_is_no_text_is_as_good_as_none(app, session):
    app.environ = {"FROM_ENV": "bytes \udcff\udcfe"}
    with pytest.raises(errors.CredentialsMissing, match="no text"):
        secrets.resolve(app, session.spec.secrets, session)


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\xfe", b"a\0b", b"x" * 70_000])
async def test_a_file_that_holds_no_secret_is_told(app, session, tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(errors.CredentialsMissing, match=str(tmp_path)) as told:
        secrets.resolve(app, session.spec.secrets, session)
    assert "sessions resume work --secret FROM_FILE=-" in (told.value.hint or "")


async def test_an_error_that_nobody_foresaw_does_not_tell_them(app, session, capsys):
    secrets.resolve(app, session.spec.secrets, session)
    assert entry._told(RuntimeError(f"what is {VALUE}?"), ["sessions", "list"]) == 1
    said = capsys.readouterr().err
    assert "what is [redacted]?" in said
    [crash] = StatePaths(default_state_dir()).logs.iterdir()
    assert str(crash) in said
    assert VALUE not in crash.read_text()
