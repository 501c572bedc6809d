"""What we hand on is what the real agents accept: each way to a credential answers a prompt on the scripted model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from agentctl import credentials
from agentctl.agents import recipes
from agentctl.supervisor.agent import agent_environment, write_missing_files
from tests.agents.shared_state import installed_agent
from tests.model_server import ModelServer
from tests.model_server.agents_env import setup_for
from tests.real.raw_acp import raw_agent

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def answer_of(tmp_path):
    """Start the agent of a user with this environment and these files, see that it is the one of our recipe, and
    return what it says."""
    user, home, project = (tmp_path / name for name in ("user", "home", "project"))
    for directory in (user, home, project):
        directory.mkdir()

    async def answer(name: str, environ: dict[str, str], files: dict[str, str] | None = None) -> str:
        for relative, text in (files or {}).items():
            (user / relative).parent.mkdir(parents=True, exist_ok=True)
            (user / relative).write_text(text)
        recipe = recipes.load(name)
        wired = recipes.to_wire(
            recipe, installed=await installed_agent(name), runtime=tmp_path, python=sys.executable, permissions="allow"
        )
        given = credentials.require(recipe, environ, user)
        write_missing_files(home, {**wired.files, **given.files})
        base = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}
        environment = agent_environment(base | given.env, wired, wired.permissions["allow"], {})
        async with raw_agent(list(wired.argv), environment, project) as agent:
            assert agent.info["version"] == recipe.version
            session = await agent.new_session(project)
            await agent.prompt(session, "[[say:hello]]")
            return agent.text()

    return answer


def sent_headers(model_server: ModelServer) -> dict[str, str]:
    return {name.lower(): value for name, value in model_server.requests[-1].headers.items()}


async def test_claude_sends_the_api_key_or_the_token_and_never_both(answer_of, model_server):
    environ = {"ANTHROPIC_BASE_URL": model_server.url, "ANTHROPIC_API_KEY": "sk-ant-scripted"}
    assert await answer_of("claude", environ) == "hello"
    assert sent_headers(model_server)["x-api-key"] == "sk-ant-scripted"
    assert await answer_of("claude", {**environ, "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat-scripted"}) == "hello"
    assert sent_headers(model_server)["authorization"] == "Bearer sk-ant-oat-scripted"
    assert "x-api-key" not in sent_headers(model_server)


async def test_claude_uses_the_login_of_the_users_claude_code(answer_of, model_server):
    login = {"claudeAiOauth": {"accessToken": "sk-ant-oat-from-file", "expiresAt": 4_000_000_000_000}}
    files = {".claude/.credentials.json": json.dumps(login)}
    assert await answer_of("claude", {"ANTHROPIC_BASE_URL": model_server.url}, files) == "hello"
    assert sent_headers(model_server)["authorization"] == "Bearer sk-ant-oat-from-file"


async def test_codex_logs_in_with_a_key_and_goes_to_the_users_base_url(answer_of, model_server):
    environ = {"OPENAI_API_KEY": "sk-scripted", "OPENAI_BASE_URL": f"{model_server.url}/v1"}
    assert (await answer_of("codex", environ)).endswith("hello")
    assert sent_headers(model_server)["authorization"] == "Bearer sk-scripted"


async def test_codex_uses_the_provider_of_the_users_configuration(answer_of, model_server):
    config = f"""
        model = "gpt-5.5"
        model_provider = "mine"
        [model_providers.mine]
        name = "mine"
        base_url = "{model_server.url}/v1"
        env_key = "MINE_KEY"
        wire_api = "responses"
        supports_websockets = false
    """
    assert await answer_of("codex", {"MINE_KEY": "sk-mine"}, {".codex/config.toml": config}) == "hello"
    assert sent_headers(model_server)["authorization"] == "Bearer sk-mine"


async def test_gemini_answers_with_a_key_and_the_settings_of_its_recipe(answer_of, model_server):
    environ = {"GEMINI_API_KEY": "scripted", "GOOGLE_GEMINI_BASE_URL": model_server.url}
    assert await answer_of("gemini", environ) == "hello"


async def test_opencode_uses_the_users_configuration_file_and_the_variable_it_names(answer_of, model_server):
    environ = setup_for("opencode", model_server.url).environment
    config = environ["OPENCODE_CONFIG_CONTENT"].replace("sk-scripted", "{env:MINE_KEY}")
    assert await answer_of("opencode", {"MINE_KEY": "sk-mine"}, {".config/opencode/opencode.json": config}) == "hello"
    assert sent_headers(model_server)["authorization"] == "Bearer sk-mine"
