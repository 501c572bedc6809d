"""``--preset NAME``: what a spec file holds, from a table of the configuration; under --spec, under options."""

from __future__ import annotations

import pytest
import yaml

from agentctl.cli.output import Output
from agentctl.cli.sandbox_options import PlaceOptions
from agentctl.cli.spec_file import merged
from agentctl.errors import UsageError
from tests.cli.running import agentctl
from tests.cli.test_spec_file import Options

PRESETS = """
[presets.review]
agent = "mock"
model = "slow"
permissions = "deny"
read_only = true
skills = ["skills/style"]
env = { A = "1", B = "2" }
timeouts = { turn = "10m" }

[presets."a/b"]
labels = { team = "web" }
secrets = ["a.key=@a.key"]

[presets.misspelt]
agnet = "mock"

[presets.number]
model = 5

[presets.clock]
model = 12:00:00

[presets.secret]
secrets = ["KEY=plain"]
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The directory of a configuration file with presets."""
    directory = tmp_path / "settings"
    directory.mkdir()
    (directory / "config.toml").write_text(PRESETS)
    monkeypatch.setenv("AGENTCTL_CONFIG", str(directory / "config.toml"))
    return directory


def filled(preset, path=None, **given):
    options = Options(**given)
    assert merged(path, "sessions create", options.all, Output(), preset=preset, print_config=False) is False
    return options


def test_a_preset_gives_what_a_spec_file_would(settings):
    options = filled("review")
    assert (options.spec.agent, options.spec.model, options.turn.permissions) == ("mock", "slow", "deny")
    assert options.machine.read_only is True
    assert options.spec.env == ["A=1", "B=2"]
    assert options.turn.timeout == 600
    assert options.setup.skill == [str(settings / "skills/style")]  # beside the file, wherever we are
    assert filled("a/b").setup.secret == [f"a.key=@{settings / 'a.key'}"]


def test_a_spec_file_goes_before_a_preset_and_options_before_both(settings, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text("model: fast\npermissions: ask\nread_only: false\nenv: {B: two, C: three}\nskills: [mine]\n")
    options = filled("review", spec, permissions="allow", env=["C=3"], skill=["/last"])
    assert (options.spec.agent, options.spec.model, options.turn.permissions) == ("mock", "fast", "allow")
    assert options.machine.read_only is False
    assert options.spec.env == ["A=1", "B=2", "B=two", "C=three", "C=3"]  # the last of a name counts
    assert options.setup.skill == [str(settings / "skills/style"), str(tmp_path / "mine"), "/last"]


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("misspelt", "[presets.misspelt]: there is no key 'agnet' in a preset for 'sessions create'.", "'agent'"),
        ("number", "[presets.number]: model has to be a text, but TOML reads 5 as a number.", '"5"'),
        ("clock", "[presets.clock]: a time of day is no value of a spec.", "quotes"),
        ("secret", "[presets.secret]: an entry of secrets says where a secret is, never what it is.", "KEY=@FILE"),
        ("revew", "There is no preset 'revew'.", "Did you mean 'review'?"),
    ],
)
def test_what_is_wrong_with_a_preset_is_told_by_its_name(settings, name, message, hint):
    with pytest.raises(UsageError) as raised:
        filled(name)
    assert raised.value.message.removeprefix(f"{settings / 'config.toml'} ") == message
    assert hint in (raised.value.hint or "")


def test_a_sandbox_takes_a_preset_whose_keys_it_has(settings):
    place = PlaceOptions()
    merged(None, "sandboxes create", (place,), Output(), preset="a/b", print_config=False)
    assert place.label == ["team=web"]
    with pytest.raises(UsageError, match="there is no key 'agent' in a preset for 'sandboxes create'"):
        merged(None, "sandboxes create", (place,), Output(), preset="review", print_config=False)


def test_every_command_that_creates_shows_the_preset_merged(settings):
    shown = agentctl("run", "--preset", "review", "--print-config", "--model", "fast")
    assert shown.code == 0, shown
    config = yaml.safe_load(shown.out)
    assert (config["agent"], config["model"], config["timeout"], config["env"]) == (
        "mock",
        "fast",
        600,
        {"A": "1", "B": "2"},
    )
    sandbox = agentctl("sandboxes", "create", "--preset", "a/b", "--print-config", "--json")
    assert sandbox.data["labels"] == {"team": "web"}


def test_a_session_is_made_from_a_preset_and_a_project_s_counts_only_when_trusted(settings, project):
    (project / "agentctl.toml").write_text('[presets.ours]\nagent = "mock"\nlabels = { from = "project" }\n')
    create = ("sessions", "create", "work", "--preset", "ours", "--no-provision")
    refused = agentctl(*create, cwd=project)
    assert refused.code == 2, refused
    assert "presets.ours ignored" in refused.err
    assert "There is no preset 'ours'" in refused.err
    assert agentctl("config", "trust", cwd=project).code == 0
    made = agentctl(*create, "--json", cwd=project)
    assert made.code == 0, made
    assert (made.data["agent"], made.data["labels"]) == ("mock", {"from": "project"})
