"""Flags over environment over file over defaults; each value knows where it comes from."""

import subprocess
import sys
from dataclasses import fields

import pytest

from agentctl import config as config_module
from agentctl.config import Config, config_path, duration_s
from agentctl.errors import UsageError


@pytest.fixture
def file(tmp_path):
    """Write the user's configuration file; returns the environment that leads to it."""

    def write(text):
        path = tmp_path / "config" / "agentctl" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return {"XDG_CONFIG_HOME": str(tmp_path / "config")}

    return write


def test_without_any_source_there_are_only_defaults(file):
    config = Config.load({"XDG_CONFIG_HOME": "/nowhere"})
    assert config == Config()
    assert (config.provider, config.permissions, config.agent) == ("unix_local", "ask", None)
    assert config.origin_of("provider") == "default"


def test_flags_win_over_environment_over_file_over_defaults(file):
    environ = file('agent = "a-file"\nmodel = "m-file"\nmode = "x"\n')
    environ |= {"AGENTCTL_AGENT": "a-env", "AGENTCTL_MODEL": "m-env", "AGENTCTL_ORIGIN": ""}
    config = Config.load(environ, {"agent": "a-flag", "mode": None})
    assert (config.agent, config.model, config.mode, config.origin) == ("a-flag", "m-env", "x", None)
    origins = [config.origin_of(key) for key in ("agent", "model", "mode", "origin")]
    assert origins == ["flag", "AGENTCTL_MODEL", f"{config_path(environ)}:3", "default"]


def test_every_setting_can_come_from_the_environment():
    keys = [f.name for f in fields(Config) if not f.name.startswith("_")]
    assert keys == list(config_module.READERS)
    environ = {f"AGENTCTL_{key.upper()}": "5" for key in keys} | {
        "AGENTCTL_PERMISSIONS": "deny",
        "XDG_CONFIG_HOME": "/no",
    }
    config = Config.load(environ)
    assert all(config.origin_of(key) == f"AGENTCTL_{key.upper()}" for key in keys)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('model = "x"\n\nagnet = "y"', 3),
        ('# agnet = 1\n"agnet" = "y"', 2),
        ('agent = "x"\n[agnet]\na = 1', 2),
        ("agnet.a = 1", 1),
    ],
)
def test_an_unknown_key_is_an_error_with_file_line_and_nearest_key(file, text, line):
    environ = file(text)
    with pytest.raises(UsageError) as caught:
        Config.load(environ)
    assert caught.value.message == f"{config_path(environ)}:{line}: there is no setting 'agnet'."
    assert "Did you mean 'agent'?" in caught.value.hint


def test_a_file_that_is_not_toml_is_an_error_with_its_line(file):
    with pytest.raises(UsageError, match="line 2"):
        Config.load(file('agent = "x"\nmodel = \n'))


def test_a_file_that_is_not_text_is_an_error(file):
    environ = file("")
    config_path(environ).write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="Cannot read"):
        Config.load(environ)


def test_a_configuration_file_named_but_missing_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="There is no configuration file"):
        Config.load({"AGENTCTL_CONFIG": str(tmp_path / "missing.toml")})


def test_the_named_file_is_read_instead_of_the_users(file, tmp_path):
    environ = file('agent = "users"')
    named = tmp_path / "named.toml"
    named.write_text('agent = "named"')
    assert Config.load({**environ, "AGENTCTL_CONFIG": str(named)}).agent == "named"


@pytest.mark.parametrize(
    "text", ['permissions = "yes"', "permissions = true", "agent = 1", 'agent = ""', "timeout = 0", 'timeout = "soon"']
)
def test_a_value_that_makes_no_sense_is_an_error_with_its_place(file, text):
    environ = file(text)
    with pytest.raises(UsageError) as caught:
        Config.load(environ)
    assert caught.value.message.startswith(f"{config_path(environ)}:1: {text.split()[0]} cannot be ")
    assert caught.value.hint


def test_a_senseless_variable_is_named():
    with pytest.raises(UsageError, match=r"^AGENTCTL_TIMEOUT: "):
        Config.load({"AGENTCTL_TIMEOUT": "-5", "XDG_CONFIG_HOME": "/nowhere"})


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1h30m", 5400), (" 3m ", 180)]
)
def test_durations_are_read_with_and_without_unit(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-1", "1d", "m", "30s1m", "inf", "nan"])
def test_other_durations_are_refused(text):
    with pytest.raises(ValueError, match="not a duration"):
        duration_s(text)


def test_tomllib_is_imported_only_for_a_file_that_exists():
    code = (
        "import sys; from agentctl.config import Config; Config.load({'XDG_CONFIG_HOME': '/nowhere'})\n"
        "print([m for m in ('tomllib', 'platformdirs', 'difflib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
