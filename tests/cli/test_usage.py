"""Bad input gets two lines and exit 2, and changes nothing."""

import os
from pathlib import Path

import pytest

from tests.cli.running import agentctl


@pytest.mark.parametrize(
    ("args", "said", "hint"),
    [
        (["sesions", "list"], "Did you mean 'sessions'?", "agentctl --help"),
        (["sessions", "lsit"], "Did you mean 'list'?", "agentctl sessions --help"),
        (["sessions", "list", "--jsn"], "Did you mean --json?", "agentctl sessions list --help"),
        (["sessions", "get"], "Missing argument 'SESSION'", "agentctl sessions get --help"),
        (["run", "two", "words"], "unexpected extra argument", "quotes"),
        (["run", "x", "--permissions", "aks"], "Did you mean 'ask'?", "accept-edits"),
        (["run", "x", "--timeout", "5q"], "'5q' is not a time", "30s"),
        (["run", "x", "--agent", "mock", "--env", "1=2"], "--env '1=2'", "NAME=value"),
        (["run", "x", "--agent", "mock", "--label", "k"], "--label 'k'", "key=value"),
        (["run", "", "--agent", "mock"], "message is empty", "on stdin"),
        (["run", "--agent", "mock"], "message is empty", "on stdin"),
        (["run", "x", "-m", "y", "--agent", "mock"], "given twice", "-f"),
        (["sessions", "list", "--limit", "0"], "--limit", "agentctl sessions list --help"),
        (["sessions", "list", "--status", "bsy"], "Did you mean 'busy'?", "idle"),
        (["sessions", "update", "x"], "Nothing to change", "--name"),
        (["sessions", "answer", "x"], "What is the answer?", "--reply"),
        (["sessions", "answer", "x", "--reply", "yes"], "--reply cannot be 'yes'", "once"),
        (["sessions", "call", "x", "m", "{"], "PARAMS is not JSON", "Quote"),
    ],
)
def test_a_mistake_gets_two_lines_and_exit_2(args, said, hint):
    done = agentctl(*args)
    assert done.code == 2, done
    assert done.out == ""
    error, hint_line = done.err.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hint_line.startswith("hint: ")
    assert hint in hint_line
    assert not (Path(os.environ["AGENTCTL_STATE_DIR"]) / "volumes").exists()


def test_a_mistake_under_json_is_one_envelope_on_stdout():
    done = agentctl("sessions", "lst", "--json")
    assert done.code == 2
    assert done.err == ""
    assert done.envelope["agentctl"] == 1
    assert done.envelope["status"] == "error"
    assert done.envelope["data"] is None
    assert done.envelope["error"]["code"] == "invalid_request"
    assert "--help" in done.envelope["error"]["hint"]


def test_no_command_shows_the_help_on_stderr():
    for args in ([], ["sessions"]):
        done = agentctl(*args)
        assert done.code == 2
        assert done.out == ""
        assert "Examples:" in done.err


@pytest.mark.parametrize(
    "args", [["--json", "sessions", "list"], ["sessions", "--json", "list"], ["sessions", "list", "--json"]]
)
def test_options_may_stand_before_the_verb(args):
    done = agentctl(*args)
    assert done.code == 0, done
    assert done.data == []


def test_the_version_is_told_in_every_position():
    assert agentctl("--version").out == agentctl("-V").out == agentctl("--version", "sessions").out
    assert agentctl("--version").out.startswith("agentctl ")


def test_an_unknown_session_is_exit_4():
    done = agentctl("sessions", "get", "nobody")
    assert done.code == 4, done
    assert done.err.startswith("error: ")


def test_deleting_without_a_terminal_needs_yes():
    agentctl("sessions", "create", "one", "--agent", "mock", "--no-provision")
    done = agentctl("sessions", "delete", "one")
    assert done.code == 2
    assert "--yes" in done.err
    assert agentctl("sessions", "list", "-q").out != ""


@pytest.mark.slow
def test_deleting_what_is_not_there_is_exit_4_or_nothing_when_that_is_fine(session):
    for noun, error in (
        ("sessions", "session_not_found"),
        ("sandboxes", "sandbox_not_found"),
        ("volumes", "volume_not_found"),
        ("workspaces", "workspace_not_found"),
        ("agents", "agent_not_found"),
    ):
        yes = ["--yes"] if noun != "agents" else []
        refused = agentctl(noun, "delete", "nope", *yes, "--json")
        assert (refused.code, refused.envelope["error"]["code"]) == (4, error), refused
        fine = agentctl(noun, "delete", "nope", "--ignore-not-found")
        assert (fine.code, fine.out, fine.err) == (0, "", ""), fine
    both = agentctl("sessions", "delete", "nope", session, "--yes", "--ignore-not-found", "--json")
    assert (both.code, len(both.data["deleted"])) == (0, 1)
    assert agentctl("agents", "delete", "nope", "--ignore-not-found", "--json").data == {"deleted": None}
    assert agentctl("volumes", "delete", "v", "--provider", "nix", "--yes", "--ignore-not-found").code == 4


def test_an_unexpected_error_is_short_and_its_traceback_is_kept(tmp_path):
    state = tmp_path / "state"
    broken = {"PYTHONPATH": str(tmp_path)}
    (tmp_path / "sitecustomize.py").write_text(
        "import agentctl.paths as p\n"
        "def _broken(self):\n    raise ZeroDivisionError('oh no')\n"
        "import agentctl.ops.app as a\na.App.store = property(_broken)\n"
    )
    done = agentctl("sessions", "update", "x", "--title", "secret-title", env=broken)
    assert done.code == 1, done
    assert done.err.splitlines()[0] == "error: Unexpected ZeroDivisionError: oh no"
    assert "Traceback" not in done.err
    [log] = (state / "logs").glob("crash-*.log")
    assert log.stat().st_mode & 0o077 == 0
    text = log.read_text()
    assert "ZeroDivisionError" in text
    assert "secret-title" not in text
    assert "Traceback" in agentctl("sessions", "update", "x", "--title", "t", "--debug", env=broken).err


def test_a_state_directory_that_cannot_be_used_is_a_clear_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = agentctl("sessions", "list", env={"AGENTCTL_STATE_DIR": str(blocked / "state")})
    assert done.code == 1
    assert "Cannot use the state directory" in done.err
    assert "AGENTCTL_STATE_DIR" in done.err
