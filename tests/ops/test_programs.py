"""Which Node an agent gets in a container."""

import pytest

from agentctl.agents import node, recipes
from agentctl.errors import AgentNotInstalled
from agentctl.ops.app import App
from agentctl.ops.programs import node_for
from agentctl.paths import StatePaths
from agentctl.providers.base import Machine

PI = recipes.load("pi")
OLD = {"node": "/usr/bin/node", "node_version": "18.20.4"}
NEW = {"node": "/usr/bin/node", "node_version": "22.20.0"}


@pytest.fixture
def chosen(tmp_path):
    """The Node for the agent pi, or another, in an image of that platform: ``image``, ``ours``, None."""
    paths = StatePaths(tmp_path)

    def choose(platform, *, recipe=PI, ours_is_there=False, **facts):
        if ours_is_there:
            path = node.own_node(paths, platform).path
            path.parent.mkdir(parents=True)
            path.touch()
        found = node_for(App(paths, {}), recipe, Machine(image="image:1", platform=platform, **facts))
        return found and ("ours" if found.own else "image")

    return choose


def test_an_image_with_a_node_that_is_new_enough_needs_none_of_ours(chosen):
    assert chosen("linux-x64", **NEW) == "image"
    assert chosen("linux-x64-musl", **NEW) == "image"


def test_ours_is_taken_where_the_image_has_none_or_an_old_one_or_it_is_there_anyway(chosen):
    assert chosen("linux-x64") == chosen("linux-arm64", **OLD) == "ours"
    assert chosen("linux-arm64", ours_is_there=True, **NEW) == "ours"


def test_where_npm_has_no_node_for_the_platform_the_error_says_what_helps(chosen):
    for facts, lack in (({}, "image:1 has none"), (OLD, "image:1 has 18.20.4")):
        with pytest.raises(AgentNotInstalled) as caught:
            chosen("linux-x64-musl", **facts)
        assert lack in caught.value.message
        assert "apk add nodejs" in caught.value.hint


def test_an_agent_that_is_a_program_of_its_own_needs_none(chosen):
    assert chosen("linux-x64-musl", recipe=recipes.load("opencode")) is None
