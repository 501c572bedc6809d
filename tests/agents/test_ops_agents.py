"""What a user is told about agents, and which one is taken when none was named."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from agentctl.agents import recipes
from agentctl.agents.installed import Installed, write_manifest
from agentctl.errors import AgentNotFound, CredentialsMissing
from agentctl.ops import agents as ops
from agentctl.ops.app import App

KEY = "sk-ant-api03-secret-value"


@pytest.fixture
def open_app(paths, tmp_path):
    def opened(**environ: str) -> App:
        home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
        return App(paths, {**home, "PATH": str(tmp_path / "programs"), **environ})

    return opened


def put(paths, name, version=None):
    version = version or recipes.load(name).version
    place = paths.agents / name / version
    place.mkdir(parents=True)
    write_manifest(place, Installed(name=name, version=version, path=place, installed_at=time.time()))


def row(app, name):
    return next(row for row in ops.list_agents(app) if row["name"] == name)


def test_the_list_has_a_row_for_every_agent_and_every_row_the_same_keys(open_app):
    rows = ops.list_agents(open_app())
    assert [row["name"] for row in rows] == list(recipes.names())
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    json.dumps(rows)


def test_a_row_tells_what_is_installed_and_whether_it_can_work(open_app, paths):
    app = open_app(ANTHROPIC_API_KEY=KEY)
    put(paths, "claude")
    put(paths, "codex", "0.1.0")
    claude, codex = row(app, "claude"), row(app, "codex")
    assert (claude["status"], claude["installed"]) == ("installed", recipes.load("claude").version)
    assert claude["credentials"] == "environment: ANTHROPIC_API_KEY"
    assert (codex["status"], codex["installed"], codex["wanted"]) == ("outdated", "0.1.0", "2.6.0")
    assert codex["credentials"] == "missing"
    assert (row(app, "mock")["status"], row(app, "mock")["credentials"]) == ("built in", "not needed")
    assert [row(app, name)["can_ask"] for name in ("claude", "pi", "goose")] == [True, False, None]


def test_a_manual_agent_is_on_path_or_says_how_it_gets_there(open_app, program):
    assert row(open_app(), "goose")["status"] == "not installed"
    assert "not on npm" in row(open_app(), "goose")["note"]
    program("goose", "exit 0")
    assert row(open_app(), "goose")["status"] == "on PATH"


@pytest.mark.parametrize("name", recipes.names())
def test_all_facts_of_an_agent_are_json_without_any_secret(name, open_app):
    environ = {variable: f"secret-of-{variable}" for variable in recipes.load(name).credentials.variables}
    facts = ops.get_agent(open_app(**environ), name)
    assert facts["name"] == name
    assert "secret-of" not in json.dumps(facts)


def test_an_alias_tells_the_same_agent(open_app):
    assert ops.get_agent(open_app(), "copilot")["name"] == "github-copilot-cli"
    with pytest.raises(AgentNotFound):
        ops.get_agent(open_app(), "nobody")


def test_the_default_is_the_first_that_is_installed_and_has_credentials(open_app, paths):
    put(paths, "claude")
    put(paths, "codex")
    assert ops.default_agent(open_app(ANTHROPIC_API_KEY=KEY))[0] == "claude"
    name, reason = ops.default_agent(open_app(OPENAI_API_KEY="sk-openai-value"))
    assert (name, "OPENAI_API_KEY" in reason) == ("codex", True)


def test_the_configured_agent_comes_first(open_app):
    assert ops.default_agent(open_app(AGENTCTL_AGENT="gemini")) == ("gemini", "configured (AGENTCTL_AGENT)")


def test_without_any_usable_agent_the_choices_are_named(open_app, paths):
    put(paths, "opencode", "0.0.1")
    with pytest.raises(CredentialsMissing) as failure:
        ops.default_agent(open_app(ANTHROPIC_API_KEY=KEY))
    assert failure.value.exit_code == 6
    hint = failure.value.hint or ""
    assert "--agent mock" in hint
    assert "claude: `agentctl agents install claude`" in hint
    assert "codex: `agentctl agents install codex` and set CODEX_API_KEY or OPENAI_API_KEY" in hint


@pytest.mark.slow
async def test_installing_says_whether_anything_changed(open_app, registry):
    app = open_app()
    first = await ops.install_agent(app, "pi", registry=registry.url)
    second = await ops.install_agent(app, "pi", registry=registry.url)
    assert (first["changed"], second["changed"]) == (True, False)
    configured = open_app(AGENTCTL_REGISTRY=registry.url)
    assert (await ops.install_agent(configured, "pi", reinstall=True))["changed"]
    assert Path(first["path"]).is_dir()
    assert await ops.uninstall_agent(app, "pi") == {"name": "pi", "removed": ["0.0.34"]}


@pytest.mark.slow
async def test_probing_tells_what_an_agent_can_do_and_leaves_nothing(open_app):
    app = open_app(PATH="/usr/bin:/bin")
    with app:
        found = await ops.probe(app, "mock")
        assert found["agent_info"]["name"] == "mock"
        assert (found["load"], found["image"], found["fork"]) == (True, True, False)
        assert found["options"]["mode"]
        assert app.store.sessions() == []


def test_listing_all_agents_is_quick(open_app):
    app = open_app()
    took_s = []
    for _ in range(3):
        recipes.load.cache_clear()
        started = time.process_time()
        ops.list_agents(app)
        took_s.append(time.process_time() - started)
    assert min(took_s) < 0.03
