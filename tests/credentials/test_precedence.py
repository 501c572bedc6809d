"""What a session's agent gets: exactly one kind, the one that was meant, and the rest is withheld."""

from __future__ import annotations

import itertools
import json

import pytest

from agentctl import credentials
from agentctl.agents import recipes
from agentctl.errors import CredentialsMissing
from tests.credentials.support import claude_login, put

CLAUDE, CODEX, GEMINI, AMP, OPENCODE = (recipes.load(name) for name in ("claude", "codex", "gemini", "amp", "opencode"))
OAUTH, KEY, BEARER = "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"

ORDER = [
    ("session", OAUTH),
    ("environment", OAUTH),
    ("session", KEY),
    ("session", BEARER),
    ("environment", KEY),
    ("environment", BEARER),
    ("login file", OAUTH),
    ("key file", KEY),
]


def ready(home, sources):
    """The environment, and the session's own variables, of a user who has these sources."""
    environ, given = {}, {}
    for source, variable in sources:
        value = f"sk-ant-{source}-{variable}"
        match source:
            case "session":
                given[variable] = value
            case "environment":
                environ[variable] = value
            case "login file":
                claude_login(home, value)
            case _:
                put(home, ".claude.json", {"primaryApiKey": value})
    return environ, given


@pytest.mark.parametrize(("better", "worse"), [*itertools.combinations(ORDER, 2)], ids=str)
def test_of_any_two_the_better_one_goes_in_and_the_other_is_withheld(tmp_path, better, worse):
    environ, given = ready(tmp_path, [better, worse])
    found = credentials.require(CLAUDE, environ, tmp_path, given)
    assert found.env == {better[1]: f"sk-ant-{better[0]}-{better[1]}"}
    assert found.files == {}


def test_of_all_of_them_the_sessions_token_goes_in(tmp_path):
    environ, given = ready(tmp_path, ORDER)
    assert credentials.require(CLAUDE, environ, tmp_path, given).env == {OAUTH: f"sk-ant-session-{OAUTH}"}


def test_a_session_withholds_by_an_empty_value(tmp_path):
    found = credentials.require(CLAUDE, {OAUTH: "token", KEY: "sk-ant-key"}, tmp_path, {OAUTH: ""})
    assert found.env == {KEY: "sk-ant-key"}


def test_a_clouds_login_gives_way_to_what_the_session_brings(tmp_path):
    cloud = {"CLAUDE_CODE_USE_BEDROCK": "1", "AWS_REGION": "eu-west-1"}
    assert credentials.require(CLAUDE, cloud, tmp_path).env == cloud
    assert credentials.require(CLAUDE, cloud, tmp_path, {KEY: "sk-ant-key"}).env == {KEY: "sk-ant-key"}
    assert credentials.require(CLAUDE, {OAUTH: "token"}, tmp_path, cloud).env == cloud


def test_settings_of_the_session_stand_above_those_of_the_environment(tmp_path):
    environ = {KEY: "sk-ant-key", "ANTHROPIC_BASE_URL": "http://one"}
    found = credentials.require(CLAUDE, environ, tmp_path, {"ANTHROPIC_BASE_URL": "http://two"})
    assert found.env == {KEY: "sk-ant-key", "ANTHROPIC_BASE_URL": "http://two"}


def test_codex_gets_the_sessions_key_and_not_the_environments_too(tmp_path):
    put(tmp_path, ".codex/auth.json", {"OPENAI_API_KEY": "from-file"})
    environ = {"CODEX_API_KEY": "from-environment"}
    found = credentials.require(CODEX, environ, tmp_path, {"OPENAI_API_KEY": "from-session"})
    assert {k: v for k, v in found.env.items() if k != "DEFAULT_AUTH_REQUEST"} == {"OPENAI_API_KEY": "from-session"}
    found = credentials.require(CODEX, environ, tmp_path)
    assert found.env["CODEX_API_KEY"] == "from-environment"
    assert credentials.require(CODEX, {}, tmp_path).env["OPENAI_API_KEY"] == "from-file"


def test_a_chatgpt_login_stays_one_where_codex_says_that_it_is_used(tmp_path):
    auth = {"auth_mode": "chatgpt", "OPENAI_API_KEY": "left-over", "tokens": {"access_token": "a-token"}}
    put(tmp_path, ".codex/auth.json", auth)
    found = credentials.require(CODEX, {}, tmp_path)
    assert found.files == {".codex/auth.json": json.dumps(auth)}
    assert "OPENAI_API_KEY" not in found.env


@pytest.mark.parametrize(
    ("recipe", "variable", "file", "content"),
    [
        (AMP, "AMP_API_KEY", ".local/share/amp/secrets.json", '{"apiKey@https://ampcode.com/": "from-file"}'),
        (GEMINI, "GEMINI_API_KEY", ".gemini/.env", "GEMINI_API_KEY=from-file\n"),
    ],
)
def test_amp_and_gemini_get_a_key_of_the_session_the_environment_or_their_file(
    tmp_path, recipe, variable, file, content
):
    put(tmp_path, file, content)
    environ, given = {variable: "from-environment"}, {variable: "from-session"}
    assert credentials.require(recipe, environ, tmp_path, given).env == {variable: "from-session"}
    assert credentials.require(recipe, environ, tmp_path).env == {variable: "from-environment"}
    assert credentials.require(recipe, {}, tmp_path).env == {variable: "from-file"}


def test_a_google_login_that_cannot_be_handed_on_is_said(tmp_path):
    put(tmp_path, ".gemini/oauth_creds.json", {"access_token": "ya29.x"})
    with pytest.raises(CredentialsMissing, match="cannot be handed on"):
        credentials.require(GEMINI, {}, tmp_path)


@pytest.mark.parametrize("entry", [{"type": "api", "key": ""}, {"type": "oauth", "access": ""}, {"type": "api"}])
def test_an_empty_login_of_opencode_is_none(tmp_path, entry):
    put(tmp_path, ".local/share/opencode/auth.json", {"openai": entry})
    assert not credentials.for_agent(OPENCODE, {}, tmp_path).found


def test_a_login_is_looked_up_anew_each_time(tmp_path):
    for token in ("sk-ant-oat01-first", "sk-ant-oat01-second"):
        claude_login(tmp_path, token)
        assert credentials.require(CLAUDE, {}, tmp_path).env == {OAUTH: token}
