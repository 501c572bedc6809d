"""Readers that leave, streams that are closed, and what a pipe gets: nothing that only a terminal should have."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from agentctl.cli.output import color_choice, wants_color
from tests.cli.running import agentctl

LOOKED_AT = [
    ["help", "exit-codes"],
    ["agents", "list"],
    ["sessions", "list"],
    ["sessions", "events", "work"],
    ["sessions", "transcript", "work"],
    ["run", "--agent", "mock", "Hello"],
]
PRINTING = [
    *LOOKED_AT,
    ["--version"],
    ["--help"],
    ["schema", "event"],
    ["doctor"],
    ["sessions", "list", "--json"],
    ["sessions", "events", "work", "--json"],
    ["sessions", "get", "nobody", "--json"],
]
BOXES = re.compile("[\u2500-\u257f\x1b]")


@pytest.fixture
def conversation():
    done = agentctl("run", "--agent", "mock", "--session", "work", "Hello")
    assert done.code == 0, done


def _started(args, **streams):
    command = [sys.executable, "-m", "agentctl.cli", *args]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, **streams)


def _in_pairs(commands, **streams):
    """Run them two at a time; yields (args, exit code, stdout, stderr)."""
    for at in range(0, len(commands), 2):
        for args, process in [(args, _started(args, **streams)) for args in commands[at : at + 2]]:
            out, err = process.communicate(timeout=60)
            yield args, process.returncode, out, err


@pytest.mark.slow
def test_a_reader_that_left_is_no_error_at_any_command(conversation):
    reader, writer = os.pipe()
    os.close(reader)
    told = []
    for args, code, _, err in _in_pairs(PRINTING, stdout=writer, stderr=subprocess.PIPE):
        quiet = args[0] == "run" or err == ""
        if code != 141 or not quiet or "Traceback" in err or "rror" in err:
            told.append((args, code, err))
    os.close(writer)
    assert told == []


@pytest.mark.slow
def test_a_pipe_gets_no_colour_and_no_boxes(conversation):
    told = [
        (args, code, found.group())
        for args, code, out, err in _in_pairs(LOOKED_AT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if code != 0 or (found := BOXES.search(out + err))
    ]
    assert told == []


def test_a_closed_stdout_or_stderr_breaks_nothing():
    shell = 'exec "$0" -m agentctl.cli "$@"'
    for closed, args, code in (
        (">&-", ["--version"], 0),
        (">&- 2>&-", ["sessions", "list"], 0),
        ("2>&-", ["sessions", "get", "nobody"], 4),
        ("<&-", ["sessions", "list", "-q"], 0),
    ):
        done = subprocess.run(
            ["sh", "-c", f"{shell} {closed}", sys.executable, *args], capture_output=True, check=False
        )
        assert (done.returncode, done.stderr if "2" not in closed else b"") == (code, b""), (closed, args, done)


@pytest.mark.parametrize(
    ("environment", "option", "terminal", "expected"),
    [
        ({}, "auto", True, True),
        ({}, "auto", False, False),
        ({"NO_COLOR": "1"}, "auto", True, False),
        ({"NO_COLOR": ""}, "auto", True, True),
        ({"FORCE_COLOR": "1"}, "auto", False, True),
        ({"FORCE_COLOR": "0"}, "auto", True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, "auto", False, False),
        ({"TERM": "dumb"}, "auto", True, False),
        ({"TERM": "dumb"}, "always", False, True),
        ({"NO_COLOR": "1"}, "always", False, True),
        ({"FORCE_COLOR": "1"}, "never", True, False),
    ],
)
def test_who_decides_about_colours(monkeypatch, environment, option, terminal, expected):
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    class Stream:
        def isatty(self):
            return terminal

    assert wants_color(Stream(), option) is expected


def test_colours_are_decided_for_each_stream(terminal):
    assert "\x1b[" in agentctl("sessions", "get", "nobody", env={"FORCE_COLOR": "1"}).err
    assert "\x1b[" not in agentctl("sessions", "get", "nobody", "--color=never", env={"FORCE_COLOR": "1"}).err
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        shown = terminal("sessions", "get", "nobody", env=env)
        assert shown.finish() == 4
        assert (b"\x1b[1;31merror" in shown.raw) is coloured, env
        assert "┃" not in shown.text
    assert color_choice(["run", "--color", "never"]) == "never"
