"""``--no-input``: on a terminal, too, nobody is asked; AGENTCTL_NO_INPUT=1 is the same."""

from __future__ import annotations

from agentctl.cli.switches import NO_INPUT


def test_what_would_be_asked_is_an_error_that_names_what_helps(terminal, session, rows):
    asking = {
        ("sessions", "delete", "work", "--no-input"): "Add --yes.",
        ("--no-input", "sessions", "delete", "work"): "Add --yes.",
        ("sessions", "answer", "work", "--no-input"): "Give --reply",
        ("sessions", "send", "work", "--editor", "--no-input"): "with -m TEXT",
        ("sessions", "create", "--agent", "mock", "--secret", "KEY=-", "--no-input"): "Use KEY=@FILE",
    }
    screens = [(terminal(*arguments, columns=200), hint) for arguments, hint in asking.items()]
    for screen, hint in screens:
        assert screen.finish() == 2, screen.text
        assert hint in screen.text
    assert rows("select name from sessions") == [(session,)]


def test_the_variable_is_the_option_and_a_request_waits_as_where_nobody_is(terminal):
    screen = terminal(
        "run", "--agent", "mock", "@permission", "--timeout", "1s", env={"AGENTCTL_NO_INPUT": "1"}, columns=200
    )
    assert screen.finish() == 5, screen.text
    assert "Waiting for an answer: mock command" in screen.text
    assert "sessions answer" in screen.text


def test_a_variable_that_says_no_forbids_nothing(monkeypatch):
    said = {}
    for value in ("1", "true", "yes", "", "0", "false", "No"):
        monkeypatch.setenv("AGENTCTL_NO_INPUT", value)
        said[value] = NO_INPUT.is_forbidden()
    assert said == {"1": True, "true": True, "yes": True, "": False, "0": False, "false": False, "No": False}
