"""All credentials of a user: which are found, which are not, and under which variables they go on."""

from __future__ import annotations

import datetime
import os
import sys

import pytest

from agentctl.credentials import shell
from agentctl.credentials.base import MAX_FILE_BYTES
from agentctl.credentials.survey import redacted, survey
from tests.credentials.support import AGO, SOON, claude_login, put, web_token

OPENCODE = ".local/share/opencode/auth.json"
KEY = "sk-ant-api03-a-key-of-a-user"


def found(home, environ=None, **how):
    """Provider → (value, source, kind)."""
    told = survey(environ or {}, home, **how)
    assert [*told.found] == sorted(told.found)
    return {name: (one.value, one.source, one.kind) for name, one in told.found.items()}


def test_without_anything_nothing_is_found(tmp_path):
    told = survey({}, tmp_path)
    assert told.to_json() == {"anthropic": None, "openai": None, "other": {}}
    assert told.warnings == () or sys.platform == "darwin"


ANTHROPIC = [
    ("ANTHROPIC_API_KEY", "environment", "api_key"),
    ("CLAUDE_API_KEY", "environment", "api_key"),
    ("CLAUDE_CODE_OAUTH_TOKEN", "environment", "oauth"),
    ("ANTHROPIC_AUTH_TOKEN", "environment", "oauth"),
    (".claude.json.api", "claude-code", "api_key"),
    (".claude.json", "claude-code", "api_key"),
    (".claude/.credentials.json", "claude-code", "oauth"),
    (OPENCODE, "opencode", "api_key"),
]


@pytest.mark.parametrize("first", range(len(ANTHROPIC)))
def test_the_sources_of_anthropic_are_asked_in_order(tmp_path, first):
    environ = {}
    for place, source, _ in ANTHROPIC[first:]:
        if source == "environment":
            environ[place] = f"sk-ant-{place}"
        elif place == OPENCODE:
            put(tmp_path, place, {"anthropic": {"type": "api", "key": f"sk-ant-{place}"}})
        elif place == ".claude/.credentials.json":
            claude_login(tmp_path, f"sk-ant-{place}")
        else:
            put(tmp_path, place, {"primaryApiKey": f"sk-ant-{place}"})
    place, source, kind = ANTHROPIC[first]
    assert found(tmp_path, environ) == {"anthropic": (f"sk-ant-{place}", source, kind)}
    keys = [row for row in ANTHROPIC[first:] if row[2] == "api_key"]
    assert found(tmp_path, environ, oauth=False)["anthropic"] == (f"sk-ant-{keys[0][0]}", keys[0][1], "api_key")


def test_the_sources_of_openai_are_asked_in_order(tmp_path):
    put(tmp_path, OPENCODE, {"openai": {"type": "api", "key": "from-opencode"}})
    assert found(tmp_path)["openai"] == ("from-opencode", "opencode", "api_key")
    token = web_token(SOON)
    put(tmp_path, ".codex/auth.json", {"OPENAI_API_KEY": "", "tokens": {"access_token": token}})
    assert found(tmp_path)["openai"] == (token, "codex", "oauth")
    assert found(tmp_path, oauth=False)["openai"] == ("from-opencode", "opencode", "api_key")
    put(tmp_path, ".codex/auth.json", {"OPENAI_API_KEY": "from-codex", "tokens": {"access_token": token}})
    assert found(tmp_path)["openai"] == ("from-codex", "codex", "api_key")
    environ = {"CODEX_API_KEY": "second", "OPENAI_API_KEY": "first"}
    assert found(tmp_path, environ)["openai"] == ("first", "environment", "api_key")
    assert found(tmp_path, {**environ, "OPENAI_API_KEY": " "})["openai"] == ("second", "environment", "api_key")


def test_the_other_providers_of_opencode_are_sorted_and_under_their_own_names(tmp_path):
    entries = {
        "zai": {"type": "api", "key": "key-of-zai"},
        "openrouter": {"type": "api", "key": "key-of-openrouter"},
        "github-copilot": {"type": "oauth", "access": "gho_token", "refresh": "gho_r", "expires": 0},
        "my-gate": {"type": "wellknown", "key": "MY_GATE_TOKEN", "token": "token-of-gate"},
    }
    put(tmp_path, OPENCODE, entries)
    told = survey({}, tmp_path)
    assert [*told.found] == ["github-copilot", "my-gate", "openrouter", "zai"]
    assert told.found["openrouter"].variables == ("OPENROUTER_API_KEY",)
    assert told.found["github-copilot"].variables == ("COPILOT_GITHUB_TOKEN",)
    assert told.found["my-gate"].variables == ("MY_GATE_TOKEN",)
    assert set(told.to_json()["other"]) == set(told.found)


def test_a_server_cannot_choose_a_variable_that_runs_a_program(tmp_path):
    entries = {
        "a": {"type": "wellknown", "key": "LD_PRELOAD", "token": "/tmp/evil.so"},
        "b": {"type": "wellknown", "key": "PATH", "token": "/tmp"},
    }
    put(tmp_path, OPENCODE, entries)
    assert all(one.variables == () for one in survey({}, tmp_path).found.values())


def test_an_amp_key_is_amps_own_and_never_anthropics(tmp_path):
    put(tmp_path, ".amp/config.json", {"anthropicApiKey": "sgamp_old"})
    assert found(tmp_path) == {"amp": ("sgamp_old", "amp", "api_key")}
    put(tmp_path, ".local/share/amp/secrets.json", {"apiKey@https://ampcode.com/": "sgamp_new"})
    assert found(tmp_path) == {"amp": ("sgamp_new", "amp", "api_key")}
    assert survey({}, tmp_path).found["amp"].variables == ("AMP_API_KEY",)
    assert found(tmp_path, {"AMP_API_KEY": "sgamp_env"}) == {"amp": ("sgamp_env", "environment", "api_key")}


@pytest.mark.parametrize(
    "content", [{"auth": {"apiKey": "sgamp_x"}}, {"auth.token": "sgamp_x"}, {"api_key": "", "token": "sgamp_x"}]
)
def test_older_files_of_amp_are_understood(tmp_path, content):
    put(tmp_path, ".amp/config.json", content)
    assert found(tmp_path)["amp"][0] == "sgamp_x"


def test_gemini_has_a_key_in_its_own_env_file_and_a_login(tmp_path):
    login = {"access_token": "ya29.token", "refresh_token": "1//r", "expiry_date": SOON * 1000}
    put(tmp_path, ".gemini/oauth_creds.json", login)
    assert found(tmp_path) == {"google": ("ya29.token", "gemini", "oauth")}
    put(tmp_path, ".gemini/.env", '# a comment\nexport GEMINI_API_KEY = "AIza-quoted"\nOTHER=1\n')
    assert found(tmp_path) == {"google": ("AIza-quoted", "gemini", "api_key")}
    assert survey({}, tmp_path).found["google"].variables == ("GEMINI_API_KEY", "GOOGLE_API_KEY")


AS_TEXT = datetime.datetime.fromtimestamp(AGO, datetime.UTC)


@pytest.mark.parametrize(
    "ended",
    [AGO * 1000, int(AGO * 1000), AS_TEXT.isoformat(), AS_TEXT.strftime("%Y-%m-%dT%H:%M:%SZ")],
    ids=["ms", "whole ms", "RFC 3339", "RFC 3339 with Z"],
)
def test_an_expired_login_is_passed_over_and_told(tmp_path, ended):
    file = claude_login(tmp_path, expires_at=ended)
    told = survey({}, tmp_path)
    assert told.found == {}
    assert [one.place for one in told.passed_over] == [file]
    assert f"{file} has expired" in told.warnings[0]
    put(tmp_path, ".claude.json", {"primaryApiKey": KEY})
    assert survey({}, tmp_path).warnings == ()


@pytest.mark.parametrize(
    "ends",
    [SOON * 1000, None, "soon", True, 10**400, {"at": 1}],
    ids=["later", "null", "a word", "a truth", "a huge number", "an object"],
)
def test_a_login_that_has_not_expired_counts(tmp_path, ends):
    claude_login(tmp_path, expires_at=ends)
    assert found(tmp_path)["anthropic"][2] == "oauth"


def test_expired_logins_of_codex_gemini_and_opencode_are_passed_over(tmp_path):
    put(tmp_path, ".codex/auth.json", {"tokens": {"access_token": web_token(AGO)}})
    put(tmp_path, ".gemini/oauth_creds.json", {"access_token": "ya29.x", "expiry_date": AGO * 1000})
    put(tmp_path, OPENCODE, {"anthropic": {"type": "oauth", "access": "sk-ant-oat", "expires": AGO * 1000}})
    told = survey({}, tmp_path)
    assert told.found == {}
    assert sorted(one.provider for one in told.passed_over) == ["anthropic", "google", "openai"]


@pytest.mark.parametrize("name", [".claude.json", ".codex/auth.json", OPENCODE, ".local/share/amp/secrets.json"])
@pytest.mark.parametrize("content", ["{", "[1]", '"text"', "\0", "{" * 100_000, '{"a": ' * 20_000])
def test_a_damaged_file_is_skipped_with_a_warning_and_the_others_count(tmp_path, name, content):
    file = put(tmp_path, name, content)
    told = survey({"OPENROUTER_API_KEY": "key-of-openrouter"}, tmp_path)
    assert [*told.found] == ["openrouter"]
    [warning] = told.warnings
    assert warning.startswith(f"{file} was skipped: ")
    assert content[:20] not in warning or len(content) < 4


def test_files_that_cannot_be_read_are_skipped_with_a_warning(tmp_path):
    (tmp_path / ".claude.json").mkdir()
    (tmp_path / ".claude.json.api").symlink_to(".claude.json.api")
    (tmp_path / ".claude").mkdir()
    os.mkfifo(tmp_path / ".claude/.credentials.json")
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/auth.json").write_bytes(b"\xff\xfe{}")
    put(tmp_path, OPENCODE, " " * (MAX_FILE_BYTES + 1))
    warnings = survey({}, tmp_path).warnings
    assert len(warnings) == 5
    assert all(" was skipped: " in warning for warning in warnings)


@pytest.mark.parametrize(
    "entry",
    [{}, 7, None, "text", {"type": "new-kind"}, {"type": "api"}, {"type": "api", "key": 5}, {"type": "oauth"}],
)
def test_an_entry_that_is_not_understood_does_not_hide_the_others(tmp_path, entry):
    put(tmp_path, OPENCODE, {"odd": entry, "openrouter": {"type": "api", "key": "key-of-openrouter"}})
    told = survey({}, tmp_path)
    assert [*told.found] == ["openrouter"]
    assert "'odd'" in told.warnings[0]


def test_empty_values_are_as_good_as_none(tmp_path):
    put(tmp_path, ".claude.json", {"primaryApiKey": "", "apiKey": None})
    put(tmp_path, ".codex/auth.json", {"OPENAI_API_KEY": "", "tokens": {"access_token": ""}})
    put(tmp_path, OPENCODE, {"openrouter": {"type": "api", "key": ""}})
    told = survey({"ANTHROPIC_API_KEY": "", "OPENAI_API_KEY": "  "}, tmp_path)
    assert (told.found, told.warnings) == ({}, ())


def test_where_programs_keep_their_files_is_obeyed_unless_another_home_is_looked_through(tmp_path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    put(elsewhere, "auth.json", {"OPENAI_API_KEY": "from-elsewhere"})
    put(home, ".codex/auth.json", {"OPENAI_API_KEY": "from-home"})
    environ = {"CODEX_HOME": str(elsewhere)}
    assert found(home, environ)["openai"][0] == "from-elsewhere"
    assert found(home, environ, elsewhere=True)["openai"][0] == "from-home"


def test_the_macos_keychain_is_said_not_to_have_been_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "The macOS keychain was not read." in survey({}, tmp_path).warnings
    assert survey({"ANTHROPIC_API_KEY": KEY}, tmp_path).warnings == ()


def test_values_are_shown_only_on_request(tmp_path):
    told = survey({"ANTHROPIC_API_KEY": KEY, "AMP_API_KEY": "short"}, tmp_path)
    assert KEY not in repr(told)
    shown = told.to_json()
    assert shown["anthropic"]["api_key"] == "sk-a...user"
    assert shown["anthropic"]["redacted"] is True
    assert shown["other"]["amp"]["api_key"] == "****"
    assert told.to_json(reveal=True)["anthropic"]["api_key"] == KEY


@pytest.mark.parametrize("value", ["", "x" * 8, "x" * 16])
def test_nothing_of_a_short_value_is_shown(value):
    assert redacted(value) == "****"


@pytest.mark.parametrize("name", ["A", "_A1", "OPENAI_API_KEY"])
def test_names_of_variables(name):
    assert shell.is_name(name)


@pytest.mark.parametrize("name", ["", "a", "1A", "A-B", "A B", "A\n", "Ä", "A=1", "302.AI_API_KEY"])
def test_what_is_no_name_of_a_variable(name):
    assert not shell.is_name(name)
