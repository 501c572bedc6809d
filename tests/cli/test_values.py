"""How the values of options are read, and what is said of wrong ones."""

from pathlib import Path

import pytest

from agentctl.cli import values
from agentctl.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("30s", 30), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("1m30", 90), ("0.5s", 0.5), ("2h", 7200)],
)
def test_a_time_is_seconds_or_has_units(text, seconds):
    assert values.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "5q", "m", "1m1h", "nan", "infinity"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match="is not a time"):
        values.duration(text)


def test_a_wrong_choice_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'accept-edits'") as e:
        values.choice("acept-edits", ("ask", "accept-edits"), "--permissions")
    assert "ask, accept-edits" in e.value.hint


def test_pairs_keep_everything_after_the_first_equals_sign():
    assert values.pairs(["a=1", "b=x=y", "a=2"], "--label") == {"a": "2", "b": "x=y"}


@pytest.mark.parametrize("text", ["novalue", "=x", ""])
def test_what_is_no_pair_is_refused(text):
    with pytest.raises(UsageError, match="--label"):
        values.pairs([text], "--label")


def test_a_variable_without_a_value_takes_the_callers(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "s3cret")
    assert values.environment(["SOME_TOKEN", "A=b=c", "EMPTY="]) == {"SOME_TOKEN": "s3cret", "A": "b=c", "EMPTY": ""}


def test_a_variable_that_is_not_set_is_refused_by_name_only(monkeypatch):
    monkeypatch.delenv("SOME_TOKEN", raising=False)
    with pytest.raises(UsageError, match="SOME_TOKEN"):
        values.environment(["SOME_TOKEN"])


@pytest.mark.parametrize("text", ["1A=b", "a b=c", "=c"])
def test_what_no_variable_can_be_called_is_refused(text):
    with pytest.raises(UsageError):
        values.environment([text])


@pytest.mark.parametrize(
    ("text", "server"),
    [
        (
            "fs=npx -y 'my server' /tmp",
            {"name": "fs", "command": "npx", "args": ["-y", "my server", "/tmp"], "env": []},
        ),
        ("web=https://h.example/mcp", {"type": "http", "name": "web", "url": "https://h.example/mcp", "headers": []}),
        (
            '{"name":"x","command":"c","env":{"K":"v"}}',
            {"name": "x", "command": "c", "args": [], "env": [{"name": "K", "value": "v"}]},
        ),
        (
            '{"name":"x","type":"sse","url":"https://h","headers":{"A":"b"}}',
            {"type": "sse", "name": "x", "url": "https://h", "headers": [{"name": "A", "value": "b"}]},
        ),
        (
            '{"mcpServers":{"y":{"command":"c","args":["1"]}}}',
            {"name": "y", "command": "c", "args": ["1"], "env": []},
        ),
    ],
)
def test_an_mcp_server_is_a_command_an_address_or_json(text, server):
    assert values.mcp_servers([text]) == (server,)


@pytest.mark.parametrize("text", ["", "x", "x=", "=cmd", "x='unclosed", "{", "{}", '{"name":"x"}', '{"mcpServers":3}'])
def test_what_is_no_mcp_server_is_refused(text):
    with pytest.raises(UsageError, match="--mcp-server"):
        values.mcp_servers([text])


def test_two_mcp_servers_of_one_name_are_refused():
    with pytest.raises(UsageError, match="two servers"):
        values.mcp_servers(["a=x", "a=y"])


def test_a_missing_file_is_refused(tmp_path):
    here = tmp_path / "there"
    here.write_text("")
    assert values.existing_files([here], "--env-file") == (str(here),)
    with pytest.raises(UsageError, match="--env-file"):
        values.existing_files([tmp_path / "not"], "--env-file")


def test_a_policy_file_is_parsed_and_its_mistakes_are_told(tmp_path):
    good = tmp_path / "good.toml"
    good.write_text('[[deny]]\nkind = "execute"\n')
    assert values.policy_file(good)["deny"] == [{"kind": "execute"}]
    bad = tmp_path / "bad.toml"
    bad.write_text("[[forbid]]\n")
    with pytest.raises(UsageError, match="forbid"):
        values.policy_file(bad)
    assert values.policy_file(None) == {}
    with pytest.raises(UsageError, match="--policy"):
        values.policy_file(Path("/nowhere"))


def test_an_option_value_is_json_or_else_text():
    assert values.json_or_text("true") is True
    assert values.json_or_text("3") == 3
    assert values.json_or_text("high") == "high"


@pytest.mark.parametrize("text", ["[1]", "x", "", "3"])
def test_params_must_be_an_object(text):
    with pytest.raises(UsageError, match="PARAMS"):
        values.json_object(text, "PARAMS")


def test_an_agent_command_is_split_as_a_shell_does():
    assert values.command_line("'my agent' --acp -x 'a b'") == ("my agent", "--acp", "-x", "a b")
    for text in ("", "  ", "'x"):
        with pytest.raises(UsageError, match="--agent-command"):
            values.command_line(text)
