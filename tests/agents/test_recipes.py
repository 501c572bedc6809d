"""Recipes: every file obeys the schema, every name is found, and what cannot be enforced is refused."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from agentctl import __version__
from agentctl.agents import platform, recipes, schema
from agentctl.agents.installed import Installed
from agentctl.errors import AgentNotFound, AgentNotInstalled, Unsupported
from agentctl.model import PERMISSIONS
from agentctl.supervisor.outcome import SIGNS
from agentctl.wire import Recipe

RUNTIME = Path("/runtime")


def minimal(**over):
    base = {
        "title": "T",
        "description": "d",
        "version": "1",
        "license": "MIT",
        "homepage": "https://example.org",
        "asks": "yes",
        "install": {"kind": "builtin"},
        "launch": {"argv": ["x"]},
        "permissions": {"allow": {}},
    }
    return base | over


def fake_install(recipe):
    return Installed(name=recipe.name, version=recipe.version, path=Path("/state/agents") / recipe.name)


def wire(recipe, permissions="allow", installed=None):
    return recipes.to_wire(recipe, installed=installed, runtime=RUNTIME, python="/py", permissions=permissions)


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_obeys_the_schema_and_names_detectors_that_exist(name):
    recipe = recipes.load(name)
    assert set(recipe.acp.failure_signs) <= set(SIGNS)
    assert recipe.version
    assert "allow" in recipe.permissions
    assert recipe.install.kind != "npm" or recipe.install.verify


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_resolves_all_of_its_placeholders_and_survives_the_wire(name, program):
    recipe = recipes.load(name)
    if recipe.install.command:
        program(recipe.install.command, "exit 0")
    wired = wire(recipe, installed=fake_install(recipe))
    assert not [part for part in (*wired.argv, *wired.path) if "{" in part]
    assert Recipe.from_json(wired.to_json()) == wired


def test_the_agents_people_ask_for_are_there_by_the_names_they_type():
    for name in ("claude", "codex", "opencode", "amp", "gemini", "pi", "mock", "goose", "cursor", "copilot"):
        assert recipes.find(name).name in recipes.names()
    assert recipes.find("copilot").name == "github-copilot-cli"


def test_no_name_or_alias_means_two_agents():
    every = [name for recipe in recipes.load_all() for name in (recipe.name, *recipe.aliases)]
    assert len(every) == len(set(every))


def test_an_unknown_agent_is_answered_with_the_nearest_names():
    with pytest.raises(AgentNotFound) as failure:
        recipes.find("cluade")
    assert failure.value.exit_code == 4
    assert "claude" in (failure.value.hint or "")
    with pytest.raises(AgentNotFound) as failure:
        recipes.find("../../etc/passwd")
    assert "agents list" in (failure.value.hint or "")


def test_an_agent_that_is_not_installed_says_the_command_that_installs_it():
    with pytest.raises(AgentNotInstalled, match="is not installed") as failure:
        wire(recipes.load("claude"))
    assert failure.value.exit_code == 7
    assert "agentctl agents install claude" in (failure.value.hint or "")


def test_another_version_than_the_pinned_one_is_not_used():
    old = Installed(name="claude", version="0.49.0", path=Path("/x"))
    with pytest.raises(AgentNotInstalled, match=r"0\.49\.0 is"):
        wire(recipes.load("claude"), installed=old)


@pytest.mark.parametrize("name", ["pi", "amp"])
@pytest.mark.parametrize("permissions", ["ask", "accept-edits", "deny"])
def test_an_agent_that_cannot_ask_is_refused_unless_all_is_allowed(name, permissions):
    with pytest.raises(Unsupported) as failure:
        wire(recipes.load(name), permissions)
    assert failure.value.exit_code == 2
    assert "--permissions allow" in (failure.value.hint or "")


@pytest.mark.parametrize("name", ["claude", "codex", "opencode", "gemini", "mock"])
def test_agents_that_ask_take_every_value(name):
    assert set(recipes.load(name).permissions) == set(PERMISSIONS)


def test_the_mock_agent_has_our_own_version():
    assert recipes.load("mock").version == __version__


def test_the_mock_agent_runs_isolated_from_the_runtime():
    assert wire(recipes.load("mock")).argv == ("/py", "-IS", "/runtime", "mock-agent")


def test_a_manual_agent_is_taken_from_path(program):
    assert wire_refused("goose").hint == recipes.load("goose").install.help
    file = program("goose", "exit 0")
    assert wire(recipes.load("goose")).argv == (str(file), "acp")


def wire_refused(name):
    with pytest.raises(AgentNotInstalled) as failure:
        wire(recipes.load(name))
    return failure.value


def test_any_acp_program_can_be_a_recipe():
    recipe = recipes.command_recipe(("/opt/my-agent", "--acp"))
    assert (recipe.name, recipe.argv) == ("my-agent", ("/opt/my-agent", "--acp"))
    assert set(recipe.permissions) == set(PERMISSIONS)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (minimal(colour="red"), "unknown key 'colour'"),
        (minimal(install={"kind": "npm", "package": []}), "unknown key 'package'"),
        (minimal(install={"kind": "snap"}), "'snap' is not one of"),
        (minimal(install={"kind": "npm"}), "needs packages"),
        (minimal(install={"kind": "npm", "packages": ["left-pad"]}), "no exact version"),
        (minimal(install={"kind": "manual", "command": "x"}), "needs command and help"),
        (minimal(permissions={"maybe": {}}), "unknown value 'maybe'"),
        (minimal(permissions={"allow": {}, "ask": {"same_as": "deny"}}), "there is no permissions.deny"),
        (minimal(asks="no", permissions={"ask": {}, "allow": {}}), "cannot ask"),
        (minimal(launch={"argv": "x"}), "a list of strings"),
        (minimal(launch={"argv": ["x"], "stop_grace_s": True}), "wrong type"),
        (minimal(launch={"argv": ["x"], "env": {"A": 1}}), "wrong type"),
        (minimal(version=1), "wrong type"),
        ({k: v for k, v in minimal().items() if k != "license"}, "'license' is missing"),
    ],
)
def test_a_wrong_recipe_is_an_error_that_names_the_place(table, said):
    with pytest.raises(schema.RecipeError, match=said):
        schema.parse("wrong", table)


def test_reading_all_recipes_is_quick():
    took_s = []
    for _ in range(3):
        recipes.load.cache_clear()
        started = time.process_time()
        recipes.load_all()
        took_s.append(time.process_time() - started)
    assert min(took_s) < 0.03


def test_the_platform_is_called_as_npm_calls_it():
    assert platform.name_of("linux", "x86_64", musl=False) == "linux-x64"
    assert platform.name_of("linux", "aarch64", musl=True) == "linux-arm64-musl"
    assert platform.name_of("darwin", "arm64", musl=False) == "darwin-arm64"
    assert platform.npm_platform().startswith(sys.platform)
