"""Credentials: the right one is found, exactly as much as is needed is handed on, and no value is ever shown."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from agentctl import credentials
from agentctl.agents import recipes
from agentctl.credentials.claude import expired
from agentctl.errors import CredentialsMissing

CLAUDE, CODEX, OPENCODE = (recipes.load(name) for name in ("claude", "codex", "opencode"))
KEY = "sk-ant-api03-secret-value"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "user").mkdir()
    return tmp_path / "user"


def put(home: Path, name: str, content) -> str:
    file = home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def login(token="sk-ant-oat01-token-value", expires_at=None):
    expires_at = time.time() * 1000 + 3_600_000 if expires_at is None else expires_at
    return {"claudeAiOauth": {"accessToken": token, "refreshToken": "never-to-be-handed-on", "expiresAt": expires_at}}


@pytest.mark.parametrize(
    ("environ", "passed"),
    [
        ({"ANTHROPIC_API_KEY": KEY}, "ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_AUTH_TOKEN": "gateway-token", "ANTHROPIC_API_KEY": KEY}, "ANTHROPIC_API_KEY"),
        ({"ANTHROPIC_API_KEY": KEY, "CLAUDE_CODE_OAUTH_TOKEN": "oauth-token"}, "CLAUDE_CODE_OAUTH_TOKEN"),
        ({"ANTHROPIC_API_KEY": "", "ANTHROPIC_AUTH_TOKEN": "gateway-token"}, "ANTHROPIC_AUTH_TOKEN"),
    ],
)
def test_claude_gets_exactly_one_kind_and_empty_means_absent(environ, passed, home):
    found = credentials.for_agent(CLAUDE, environ, home)
    assert found.env == {passed: environ[passed]}
    assert found.source == f"environment: {passed}"
    assert found.secrets == (environ[passed],)


def test_the_users_settings_are_handed_on_and_other_variables_are_not(home):
    environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://127.0.0.1:1", "AWS_SECRET_ACCESS_KEY": "x" * 20}
    found = credentials.for_agent(CLAUDE, environ, home)
    assert found.env == {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}


def test_a_cloud_login_is_handed_on_only_when_it_is_switched_on(home):
    aws = {"AWS_REGION": "eu-west-1", "AWS_SECRET_ACCESS_KEY": "aws-secret-value", "ANTHROPIC_API_KEY": KEY}
    found = credentials.for_agent(CLAUDE, {**aws, "CLAUDE_CODE_USE_BEDROCK": "1"}, home)
    expected = {**aws, "CLAUDE_CODE_USE_BEDROCK": "1"}
    del expected["ANTHROPIC_API_KEY"]
    assert found.env == expected
    assert "aws-secret-value" in found.secrets
    assert "AWS_REGION" not in credentials.for_agent(CLAUDE, {**aws, "CLAUDE_CODE_USE_BEDROCK": "0"}, home).env


def test_the_login_of_claude_code_is_used_without_its_refresh_token(home):
    file = put(home, ".claude/.credentials.json", login())
    found = credentials.for_agent(CLAUDE, {}, home)
    assert found.env == {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-token-value"}
    assert (found.source, found.files) == (f"file: {file}", {})


@pytest.mark.parametrize("expires_at", [1_700_000_000_000, "2020-01-01T00:00:00Z"])
def test_an_expired_login_is_not_a_credential_and_says_so(expires_at, home):
    put(home, ".claude/.credentials.json", login(expires_at=expires_at))
    found = credentials.for_agent(CLAUDE, {}, home)
    assert not found.found
    with pytest.raises(CredentialsMissing, match="has expired"):
        credentials.require(CLAUDE, {}, home)


def test_the_key_that_claude_code_keeps_comes_last(home):
    put(home, ".claude.json", {"primaryApiKey": KEY})
    assert credentials.for_agent(CLAUDE, {}, home).env == {"ANTHROPIC_API_KEY": KEY}
    put(home, ".claude/.credentials.json", login())
    assert "ANTHROPIC_API_KEY" not in credentials.for_agent(CLAUDE, {}, home).env


@pytest.mark.parametrize("text", ["", "{", "[]", '{"claudeAiOauth": 1}', '{"claudeAiOauth": {"accessToken": 7}}', "\0"])
def test_a_damaged_file_is_as_good_as_none(text, home):
    put(home, ".claude/.credentials.json", text)
    put(home, ".claude.json", text)
    put(home, ".codex/auth.json", text)
    put(home, ".codex/config.toml", text)
    put(home, ".local/share/opencode/auth.json", text)
    for recipe in (CLAUDE, CODEX, OPENCODE):
        assert not credentials.for_agent(recipe, {}, home).found


def test_expiry_is_read_as_milliseconds_or_rfc3339():
    assert expired(999_000, now=1000)
    assert not expired(1_001_000, now=1000)
    assert expired("1970-01-01T00:16:00+00:00", now=1000)
    assert not expired("1970-01-01T00:17:00Z", now=1000)
    assert not expired(None)
    assert not expired("soon")
    assert not expired(True)


def test_a_key_for_codex_comes_with_the_request_to_log_in(home):
    found = credentials.for_agent(CODEX, {"OPENAI_API_KEY": "sk-openai-value"}, home)
    assert found.env["OPENAI_API_KEY"] == "sk-openai-value"
    assert json.loads(found.env["DEFAULT_AUTH_REQUEST"]) == {"methodId": "api-key"}


def test_the_base_url_that_codex_ignores_is_handed_on_in_its_configuration(home):
    environ = {"OPENAI_API_KEY": "sk-openai-value", "OPENAI_BASE_URL": "https://proxy.example/v1"}
    found = credentials.for_agent(CODEX, environ, home)
    assert json.loads(found.env["CODEX_CONFIG"]) == {"openai_base_url": "https://proxy.example/v1"}


def test_a_base_url_alone_is_no_credential(home):
    assert not credentials.for_agent(CODEX, {"OPENAI_BASE_URL": "https://proxy.example/v1"}, home).found


PROVIDER = {"name": "mine", "base_url": "http://127.0.0.1:1/v1", "env_key": "MINE_KEY", "wire_api": "responses"}


def test_a_custom_provider_in_codex_config_needs_no_login_but_its_own_variable(home):
    config = {"model": "m", "model_provider": "mine", "model_providers": {"mine": PROVIDER}}
    environ = {"CODEX_CONFIG": json.dumps(config), "MINE_KEY": "mine-secret-value", "OPENAI_API_KEY": "sk-openai-value"}
    found = credentials.for_agent(CODEX, environ, home)
    assert json.loads(found.env.pop("CODEX_CONFIG")) == config
    assert found.env == {"MINE_KEY": "mine-secret-value"}
    assert found.secrets == ("mine-secret-value",)


def test_a_custom_provider_without_its_variable_is_not_a_credential(home):
    config = {"model_provider": "mine", "model_providers": {"mine": PROVIDER}}
    found = credentials.for_agent(CODEX, {"CODEX_CONFIG": json.dumps(config)}, home)
    assert not found.found
    assert "MINE_KEY" in found.note


def test_a_codex_config_that_is_not_json_is_said(home):
    with pytest.raises(CredentialsMissing, match="CODEX_CONFIG is not a JSON object"):
        credentials.require(CODEX, {"CODEX_CONFIG": "model = 1", "OPENAI_API_KEY": "sk-openai-value"}, home)


def test_only_the_provider_of_codexs_own_configuration_crosses(home):
    file = put(
        home,
        ".codex/config.toml",
        'model = "m"\nmodel_provider = "mine"\napproval_policy = "never"\nsandbox_mode = "danger-full-access"\n'
        '[model_providers.mine]\nname = "mine"\nbase_url = "http://127.0.0.1:1/v1"\nenv_key = "MINE_KEY"\n'
        '[model_providers.other]\nname = "other"\n[mcp_servers.private]\ncommand = "private"\n',
    )
    found = credentials.for_agent(CODEX, {"MINE_KEY": "mine-secret-value"}, home)
    config = json.loads(found.env["CODEX_CONFIG"])
    assert set(config) == {"model", "model_provider", "model_providers"}
    assert list(config["model_providers"]) == ["mine"]
    assert found.source == f"file: {file}: model provider mine"
    assert found.files == {}


def test_a_chatgpt_login_of_codex_is_placed_as_its_file(home):
    text = json.dumps(
        {"OPENAI_API_KEY": None, "tokens": {"access_token": "access-value", "refresh_token": "refresh-v"}}
    )
    put(home, ".codex/auth.json", text)
    found = credentials.for_agent(CODEX, {}, home)
    assert found.files == {".codex/auth.json": text}
    assert set(found.secrets) == {"access-value", "refresh-v"}


def test_a_key_in_codexs_file_is_used_like_one_in_the_environment(home, tmp_path):
    put(tmp_path, "elsewhere/auth.json", {"OPENAI_API_KEY": "sk-from-the-file"})
    found = credentials.for_agent(CODEX, {"CODEX_HOME": str(tmp_path / "elsewhere")}, home)
    assert found.env["OPENAI_API_KEY"] == "sk-from-the-file"
    assert "DEFAULT_AUTH_REQUEST" in found.env


def test_opencode_gets_every_key_its_login_and_its_configuration(home):
    auth = {"anthropic": {"type": "oauth", "access": "access-token", "refresh": "refresh-token", "expires": 1}}
    config = '{"provider": {"mine": {"options": {"apiKey": "{env:MINE_KEY}"}}}}'
    put(home, ".local/share/opencode/auth.json", auth)
    put(home, ".config/opencode/opencode.json", config)
    environ = {"OPENAI_API_KEY": "sk-openai-value", "ANTHROPIC_API_KEY": KEY, "MINE_KEY": "mine-secret-value"}
    found = credentials.for_agent(OPENCODE, environ, home)
    assert found.env == environ
    assert found.files == {
        ".local/share/opencode/auth.json": json.dumps(auth),
        ".config/opencode/opencode.json": config,
    }
    assert {"access-token", "refresh-token", KEY, "mine-secret-value"} <= set(found.secrets)


def test_a_provider_in_opencodes_variable_is_a_credential_and_its_key_a_secret(home):
    config = json.dumps({"provider": {"mine": {"options": {"apiKey": "inline-secret"}}}})
    found = credentials.for_agent(OPENCODE, {"OPENCODE_CONFIG_CONTENT": config}, home)
    assert found.env == {"OPENCODE_CONFIG_CONTENT": config}
    assert found.source == "environment: OPENCODE_CONFIG_CONTENT"
    assert found.secrets == ("inline-secret",)
    assert not credentials.for_agent(OPENCODE, {"OPENCODE_CONFIG_CONTENT": '{"theme": "dark"}'}, home).found


def test_missing_credentials_name_the_variables_that_would_do(home):
    with pytest.raises(CredentialsMissing) as failure:
        credentials.require(CLAUDE, {}, home)
    assert failure.value.exit_code == 6
    for name in CLAUDE.credentials.variables:
        assert name in (failure.value.hint or "")


def test_an_agent_that_needs_no_credential_is_never_refused(home):
    assert not credentials.require(recipes.load("mock"), {}, home).found
    assert not credentials.require(recipes.load("goose"), {}, home).found


@pytest.mark.parametrize("name", recipes.names())
def test_every_variable_of_a_recipe_is_found_and_no_value_shows(name, home):
    recipe = recipes.load(name)
    environ = {variable: f"secret-of-{variable}" for variable in recipe.credentials.variables}
    found = credentials.for_agent(recipe, environ, home)
    shown = f"{found!r} {credentials.status(recipe, environ, home)} {credentials.missing(recipe, found).to_json()}"
    assert "secret-of" not in shown
    assert found.found == bool(environ)
    assert set(found.secrets) == {found.env[variable] for variable in environ if variable in found.env}
