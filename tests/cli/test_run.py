"""``agentctl run`` as a script uses it, with the mock agent."""

import json
import os
import subprocess
import sys

import pytest

from tests.cli.running import agentctl

RESULT_KEYS = [
    *("type", "session_id", "session", "turn_id", "outcome", "stop_reason", "text", "context", "usage", "cost"),
    *("duration_ms", "denied", "pending", "interrupted", "error"),
]


def run(*args, **how):
    return agentctl("run", "--agent", "mock", *args, **how)


def test_the_answer_is_on_stdout_and_the_story_on_stderr():
    done = run("Hello")
    assert done.code == 0, done
    assert done.out == "mock: Hello\n"
    assert done.err.splitlines()[0] == "Starting mock …"
    assert done.err.splitlines()[-1].startswith("Done · ")
    assert "\x1b" not in done.out + done.err


def test_a_throw_away_session_leaves_nothing(rows):
    assert run("Hello").code == 0
    assert agentctl("sessions", "list", "--json").data == []
    assert rows("select count(*) from events") == [(0,)]


def test_quiet_prints_the_answer_only():
    done = run("-q", "Hello")
    assert (done.code, done.out, done.err) == (0, "mock: Hello\n", "")


def test_json_is_events_ended_by_the_result_line():
    done = run("--json", "@tool @say=Hello")
    assert done.code == 0, done
    *log, result = done.events
    assert [e["sequence"] for e in log] == list(range(log[0]["sequence"], log[0]["sequence"] + len(log)))
    assert log[0]["type"] == "turn.started"
    assert log[-1]["type"] == "turn.ended"
    assert list(result) == RESULT_KEYS
    assert result["type"] == "result"
    assert result["outcome"] == "completed"
    assert result["stop_reason"] == "end_turn"
    assert result["text"] == "Hello"
    assert result["context"] == "new"
    assert result["error"] is None


def test_json_of_an_error_before_the_turn_is_a_result_line_too():
    done = agentctl("run", "--agent", "clade", "--json", "Hello")
    assert done.code == 4, done
    [result] = done.events
    assert list(result) == RESULT_KEYS
    assert result["outcome"] == "failed"
    assert result["error"]["code"] == "agent_not_found"
    assert "claude" in result["error"]["hint"]


@pytest.mark.parametrize(
    ("message", "more", "outcome", "code"),
    [
        ("@stop=refusal", [], "refused", 9),
        ("@stop=max_tokens", [], "limit", 9),
        ("@error=-32603", [], "failed", 7),
        ("@crash", [], "failed", 7),
        ("@hang", ["--timeout", "0.5s"], "timeout", 3),
        ("@permission", ["--permissions", "deny"], "denied", 5),
        ("@permission", ["--timeout", "1.5s"], "denied", 5),
        ("@permission", ["--permissions", "deny", "--accept-denials"], "completed", 0),
        ("@permission", ["--permissions", "allow"], "completed", 0),
        ("Hello", [], "completed", 0),
    ],
)
def test_every_outcome_has_its_exit_code(message, more, outcome, code):
    done = run("--json", message, *more)
    assert (done.events[-1]["outcome"], done.code) == (outcome, code), done


@pytest.mark.slow
def test_the_same_outcomes_are_said_in_words():
    refused = run("@stop=refusal")
    assert "The agent refused" in refused.err
    denied = run("@permission", "--permissions", "deny")
    assert "Denied by the permissions in force: mock command" in denied.err
    crashed = run("@crash")
    failed, hint = crashed.err.splitlines()[-2:]
    assert failed.startswith("Failed: ")
    assert hint == "Its last words: mock agent: crashing as told"


def test_without_anybody_to_ask_it_is_said_how_to_answer():
    done = run("--session", "work", "@permission", "--timeout", "1.5s")
    assert done.code == 5
    assert "Waiting for an answer: mock command" in done.err
    assert "agentctl sessions answer work req_" in done.err


def test_text_and_piped_stdin_are_joined():
    done = run("-q", "Explain @echo", stdin="the log\n")
    assert done.out == "Explain @echo\n\nthe log\n"


@pytest.mark.parametrize("args", [["-"], ["-f", "-"], []])
def test_the_message_may_come_from_stdin_alone(args):
    assert run("-q", *args, stdin="from stdin").out == "mock: from stdin\n"


def test_the_message_may_come_from_a_file(tmp_path):
    (tmp_path / "prompt.md").write_text("from a file")
    assert run("-q", "-f", str(tmp_path / "prompt.md")).out == "mock: from a file\n"
    missing = run("-f", str(tmp_path / "none"))
    assert missing.code == 2
    assert "Cannot read" in missing.err


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "image").write_bytes(b"\xff\xfe\x00")
    done = run("-f", str(tmp_path / "image"))
    assert done.code == 2
    assert "--attach" in done.err


def test_a_dash_that_starts_a_message_is_no_option_after_two_dashes():
    assert run("-q", "--", "--help me").out == "mock: --help me\n"


@pytest.mark.slow
def test_keep_and_session_keep_the_session():
    kept = run("--keep", "one")
    assert "Go on with: agentctl sessions stream mock-" in kept.err
    assert run("--session", "work", "two").code == 0
    assert run("--session", "work", "-q", "@recall").out.strip() != ""
    names = [s["name"] for s in agentctl("sessions", "list", "--json").data]
    assert "work" in names
    assert len(names) == 2


def test_a_session_with_another_agent_is_a_conflict():
    assert run("--session", "work", "one").code == 0
    done = agentctl("run", "--session", "work", "--agent", "claude", "two")
    assert done.code == 10, done
    assert "agent mock, not claude" in done.err


def test_detach_leaves_the_turn_running():
    done = run("--detach", "@sleep=0.3 Hello", "--json")
    assert done.code == 0, done
    assert set(done.data) == {"session_id", "session", "turn_id", "status", "position"}
    followed = agentctl(
        "sessions", "stream", done.data["session"], "Hello", "--turn-id", done.data["turn_id"], "--json"
    )
    assert followed.events[-1]["outcome"] == "completed"
    assert followed.events[-1]["turn_id"] == done.data["turn_id"]


def test_the_default_agent_is_said_or_the_choices_are():
    chosen = agentctl("run", "Hello", env={"AGENTCTL_AGENT": "mock"})
    assert chosen.err.startswith("Using the agent mock")
    none = agentctl("run", "Hello", env={"PATH": "/usr/bin:/bin", "HOME": os.environ["AGENTCTL_STATE_DIR"]})
    assert none.code == 6
    assert "--agent mock" in none.err


def test_the_callers_directory_is_the_agents(tmp_path):
    assert str(tmp_path) in run("-q", "@cwd", cwd=tmp_path).out
    below = tmp_path / "below"
    below.mkdir()
    assert str(below) in run("-q", "@cwd", "--cwd", "below", cwd=tmp_path).out


def test_a_variable_reaches_the_agent_without_standing_in_output():
    done = run("--env", "MY_TOKEN", "--json", "@env=MY_TOKEN", env={"MY_TOKEN": "canary-4711"})
    assert done.code == 0, done
    assert "11" in done.events[-1]["text"]
    assert "canary-4711" not in done.out + done.err


def test_a_reader_that_leaves_is_no_error():
    command = [sys.executable, "-m", "agentctl.cli", "run", "--agent", "mock", "--json", "@chunks=5000 @size=100"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = child.stdout.readline()
    child.stdout.close()
    err = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=60) == 141
    assert json.loads(first)["type"] == "turn.started"
    assert "Traceback" not in err
    assert "error" not in err


def test_sigterm_cancels_the_turn_and_is_143():
    command = [sys.executable, "-m", "agentctl.cli", "run", "--agent", "mock", "--json", "@hang"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert json.loads(child.stdout.readline())["type"] == "turn.started"
    child.terminate()
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 143
    assert json.loads(out.splitlines()[-1])["outcome"] == "cancelled"


@pytest.mark.slow
def test_colours_are_the_users_choice():
    assert "\x1b[" in run("Hello", "--color", "always").err
    assert "\x1b[" in run("Hello", env={"FORCE_COLOR": "1"}).err
    assert "\x1b[" not in run("Hello", env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).err
    assert "\x1b[" not in run("Hello", "--color", "never", env={"FORCE_COLOR": "1"}).err


def test_quiet_silences_no_warning():
    done = run("-q", "@stop=refusal")
    assert (done.code, done.out) == (9, "mock: \n")
    assert done.err.startswith("The agent refused")


def test_an_unknown_provider_is_exit_4_and_makes_nothing():
    done = run("Hello", "--provider", "dokcer")
    assert done.code == 4, done
    assert agentctl("sessions", "list", "--json").data == []
